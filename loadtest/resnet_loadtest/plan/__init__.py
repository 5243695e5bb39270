"""What is to be sent when: load over time, arrivals; pure."""
