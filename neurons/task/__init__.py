"""What is asked: years, prompts, and the measures of behaviour."""
