"""Schemas of every table: names, units and meanings of columns."""
