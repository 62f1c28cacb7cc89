"""From a model's weights to a program that runs on ciphertexts, and the client's public half of it."""
