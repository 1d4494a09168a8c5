"""Tables, Parquet files, and the meaning of their columns."""
