"""Outside services, one a file. A client speaks a protocol and knows which of its errors may pass with time."""
