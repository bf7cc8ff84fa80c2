"""What several tests need: trees of data sets, runs that are killed, reports of made-up results."""
