"""What is done when an alert is raised or cleared: webhooks, commands, and proposals of a new release."""
