"""Where accepted rows go, so that writing again changes nothing."""
