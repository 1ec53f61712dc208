"""What the public functions are made of: requests to Erlang, and what this process keeps."""
