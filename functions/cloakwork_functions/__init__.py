"""Everything of cloakwork that runs as a serverless function, and what stands in front of it."""
