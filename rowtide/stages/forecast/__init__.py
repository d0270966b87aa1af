"""What a run would cost and take, before it is paid for."""
