"""Everything with columns: tables, Parquet files, and what their columns mean."""
