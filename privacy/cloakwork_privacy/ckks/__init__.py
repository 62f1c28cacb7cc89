"""CKKS encryption: parameters, keys, what travels between client and server, and the cipher's operations.

The secret half lives in `secret` alone. Server code imports `public`, never `secret`, so the server has no
type that could hold a secret key.

CKKS answers are approximate, and a decryption carries noise that depends on the secret key: never hand a
client's decryptions, unrounded, back to whoever may have chosen the ciphertexts.
"""
