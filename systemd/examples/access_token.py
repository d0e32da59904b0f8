#!/usr/bin/env python3
"""Prints an access token that is valid for a day: access_token.py SUBJECT SECRET_FILE"""
import base64, hashlib, hmac, json, sys, time


def access_token(secret, **claims):
    encode = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=")
    header = {"alg": "HS256", "typ": "JWT"}
    signed = b".".join(encode(json.dumps(part).encode()) for part in (header, claims))
    return (signed + b"." + encode(hmac.digest(secret, signed, hashlib.sha256))).decode()


subject, secret_file = sys.argv[1:]
secret = open(secret_file, "rb").readline().strip()
print(access_token(secret, sub=subject, exp=int(time.time()) + 86400))
