"""How a program asks: the receiver of messages."""
