#!/usr/bin/env node
// Prints an access token that is valid for a day: access-token.mjs SUBJECT SECRET_FILE
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";

function accessToken(secret, claims) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

const [subject, secretFile] = process.argv.slice(2);
const secret = readFileSync(secretFile, "utf8").split("\n")[0].trim();
console.log(accessToken(secret, { sub: subject, exp: Math.floor(Date.now() / 1000) + 86400 }));
