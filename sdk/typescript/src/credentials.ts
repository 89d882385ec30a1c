/** An agent's credentials: a bearer key, or a private key that signs its own tokens (contract, "Tokens"). */

import { ConfigurationError } from "./errors.js";

const AUDIENCE = "relaytrace";
/** How long a token of ours lives, in seconds; the contract allows 900. */
const TOKEN_SECONDS = 300;
/** A token is used while it has so long to live, in seconds. */
const TOKEN_MARGIN_SECONDS = 60;
/** `rtk_`, key_id, `_`, 43 base64url characters. */
const BEARER = /^rtk_([A-Za-z0-9._-]{1,128})_[A-Za-z0-9_-]{43}$/;

/** Signs calls to the relay. */
export interface Credentials {
  readonly keyId: string;
  /** A token for `now`, in seconds since the epoch. */
  token(now: number): Promise<string>;
}

/** A bearer key, as it was handed out. */
export class BearerKey implements Credentials {
  readonly keyId: string;
  readonly #token: string;

  /** @throws {ConfigurationError} where the text is no bearer key. */
  constructor(token: string) {
    const keyId = BEARER.exec(token)?.[1];
    if (keyId === undefined) {
      throw new ConfigurationError(
        "RELAYTRACE_TOKEN is not a bearer key: it begins with rtk_ and is used as it was handed out",
      );
    }
    this.keyId = keyId;
    this.#token = token;
  }

  async token(): Promise<string> {
    return this.#token;
  }
}

/** An Ed25519 or P-256 key (PKCS#8 PEM) whose public half is registered. */
export class PrivateKey implements Credentials {
  readonly #pkcs8: Uint8Array<ArrayBuffer>;
  #imported: Promise<{ alg: string; sign(text: string): Promise<string> }> | undefined;
  #kept = { token: "", expires: 0 };

  /** @throws {ConfigurationError} where the text is no PEM. */
  constructor(
    readonly agentId: string,
    readonly keyId: string,
    pem: string,
  ) {
    const body = /^-----BEGIN PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END PRIVATE KEY-----\s*$/.exec(pem.trim())?.[1];
    if (body === undefined) {
      throw new ConfigurationError(
        "RELAYTRACE_PRIVATE_KEY is neither a PKCS#8 PEM (BEGIN PRIVATE KEY) nor the path of one",
      );
    }
    this.#pkcs8 = Uint8Array.from(Buffer.from(body, "base64"));
  }

  async token(now: number): Promise<string> {
    // Also where the clock was set back: a token from the future is not accepted.
    const left = this.#kept.expires - now;
    if (left > TOKEN_MARGIN_SECONDS && left <= TOKEN_SECONDS) return this.#kept.token;
    this.#imported ??= importKey(this.#pkcs8);
    const { alg, sign } = await this.#imported;
    const expires = now + TOKEN_SECONDS;
    const claims = { iss: this.agentId, sub: this.agentId, aud: AUDIENCE, iat: now, exp: expires };
    const text = `${part({ alg, typ: "JWT", kid: this.keyId })}.${part(claims)}`;
    const token = `${text}.${await sign(text)}`;
    this.#kept = { token, expires };
    return token;
  }
}

const KINDS = [
  { alg: "EdDSA", algorithm: { name: "Ed25519" } },
  { alg: "ES256", algorithm: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } },
];

async function importKey(pkcs8: Uint8Array<ArrayBuffer>) {
  for (const { alg, algorithm } of KINDS) {
    const key = await crypto.subtle.importKey("pkcs8", pkcs8, algorithm, false, ["sign"]).catch(() => undefined);
    if (key === undefined) continue;
    const sign = async (text: string) =>
      Buffer.from(await crypto.subtle.sign(algorithm, key, new TextEncoder().encode(text))).toString("base64url");
    return { alg, sign };
  }
  throw new ConfigurationError("RELAYTRACE_PRIVATE_KEY is not an Ed25519 or P-256 key");
}

function part(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
