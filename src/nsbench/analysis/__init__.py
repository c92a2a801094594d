"""From the records of all runs to tables: collection, scores, `statistics`."""
