"""Measures of a model: functions of any callable from tokens to logits, and of inputs."""
