"""One HTML file of a folder of results: a summary, charts, tables that sort and filter, and how to make it again."""
