// Verifies a receipt offline with the npm package `jose`.
//
//   node receipt.mjs < receipt.json      exits 0: verified, 1: refused, 2: not understood
//
// receipt.json: {"receipt": "<compact JWS>", "jwks": {"keys": […]}, "expected": {"<claim>": <value>}}

import { text } from "node:stream/consumers";
import { createLocalJWKSet, errors, jwtVerify } from "jose";

async function verify({ receipt, jwks, expected }) {
  const { payload } = await jwtVerify(receipt, createLocalJWKSet(jwks), {
    algorithms: ["EdDSA"],
    typ: "relaytrace-receipt+jwt",
    requiredClaims: ["iss", "sub", "iat"],
  });
  return Object.entries(expected).every(([claim, value]) => payload[claim] === value);
}

try {
  process.exit((await verify(JSON.parse(await text(process.stdin)))) ? 0 : 1);
} catch (fault) {
  console.error(fault.message);
  process.exit(fault instanceof errors.JOSEError ? 1 : 2);
}
