"""The receiver of webhooks: how a program asks."""
