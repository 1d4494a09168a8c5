"""What is measured or compiled before a run's first step."""
