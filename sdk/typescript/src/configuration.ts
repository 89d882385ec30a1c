/** Where the relay is, who asks, and how answers are verified. */

import { readFileSync } from "node:fs";
import { BearerKey, type Credentials, PrivateKey } from "./credentials.js";
import { ConfigurationError } from "./errors.js";

export interface RelayOptions {
  /** Address of the relay. Environment: `RELAYTRACE_URL`. */
  url: string;
  /** A bearer key, as it was handed out. `RELAYTRACE_TOKEN`. */
  token?: string;
  /** The agent. `RELAYTRACE_AGENT_ID`. */
  agentId?: string;
  /** Name of the registered key, with `privateKey`. `RELAYTRACE_KEY_ID`. */
  keyId?: string;
  /** PKCS#8 PEM, or the path of one. `RELAYTRACE_PRIVATE_KEY`. */
  privateKey?: string;
  /** The `response_secret` of the key. `RELAYTRACE_RESPONSE_SECRET`. */
  responseSecret?: string;
  /** Only `false` lets a relay without `responseSecret` be used: then whoever is between can approve anything. */
  verify?: boolean;
  /** Name of the deployment that receipts must come from (`iss`). */
  deployment?: string;
  /** Names a run of the agent. The same calls in a run of the same name are the same requests, also after a restart. */
  runId?: string;
  /** Limit for one try of a call, in seconds; 10 by default. */
  trySeconds?: number;
  /** Limit for all tries of a call, in seconds; 120 by default, and at most 10 while the relay has never answered. */
  patienceSeconds?: number;
  /** Is told what went wrong after an action ran; `process.emitWarning` by default. */
  onWarning?: (message: string) => void;
  /** The global `fetch` by default. */
  fetch?: typeof fetch;
}

/** Usable options, all faults of the given ones having been reported together. */
export interface Configuration {
  url: string;
  agentId: string;
  credentials: Credentials;
  secret: Uint8Array<ArrayBuffer> | undefined;
}

/** The environment's options; `overrides` win. */
export function environmentOptions(overrides: Partial<RelayOptions>, environment = process.env): Partial<RelayOptions> {
  const named = {
    url: environment.RELAYTRACE_URL,
    token: environment.RELAYTRACE_TOKEN,
    agentId: environment.RELAYTRACE_AGENT_ID,
    keyId: environment.RELAYTRACE_KEY_ID,
    privateKey: environment.RELAYTRACE_PRIVATE_KEY,
    responseSecret: environment.RELAYTRACE_RESPONSE_SECRET,
  };
  const set = Object.fromEntries(Object.entries(named).filter(([, value]) => value));
  // Both kinds of keys may be in the environment; what the caller names is meant.
  if (overrides.privateKey) delete set.token;
  if (overrides.token) delete set.privateKey;
  return { ...set, ...overrides };
}

/** @throws {ConfigurationError} with all faults. */
export function configure(options: Partial<RelayOptions>): Configuration {
  const faults: string[] = [];
  const use = <T>(read: () => T): T | undefined => {
    try {
      return read();
    } catch (error) {
      faults.push((error as Error).message);
      return undefined;
    }
  };
  const url = use(() => address(options.url));
  const credentials = use(() => credentialsOf(options));
  const agentId = use(() => agentOf(options));
  const secret = use(() => secretOf(options));
  if (faults.length > 0 || !url || !credentials || !agentId) throw new ConfigurationError(faults.join("; "));
  return { url, agentId, credentials, secret };
}

function address(url: string | undefined): string {
  if (!url)
    throw new ConfigurationError(
      "RELAYTRACE_URL is not set: it is the address of the relay, such as https://relay.example",
    );
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (!parsed || !/^https?:$/.test(parsed.protocol) || parsed.search || parsed.hash || parsed.username) {
    throw new ConfigurationError(`RELAYTRACE_URL (${url}) is no http or https address`);
  }
  return url;
}

function credentialsOf({ token, agentId, keyId, privateKey }: Partial<RelayOptions>): Credentials {
  if (token && privateKey) throw new ConfigurationError("set RELAYTRACE_TOKEN or RELAYTRACE_PRIVATE_KEY, not both");
  if (token) return new BearerKey(token);
  if (!privateKey || !keyId || !agentId) {
    const missing = Object.entries({ AGENT_ID: agentId, KEY_ID: keyId, PRIVATE_KEY: privateKey }).filter(
      ([, value]) => !value,
    );
    const names = missing.map(([name]) => `RELAYTRACE_${name}`).join(", ");
    throw new ConfigurationError(`set RELAYTRACE_TOKEN (a bearer key), or for a private key: ${names}`);
  }
  return new PrivateKey(agentId, keyId, privateKey.includes("-----BEGIN") ? privateKey : readPem(privateKey));
}

function readPem(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new ConfigurationError(`RELAYTRACE_PRIVATE_KEY is no PEM, and a file of that name cannot be read (${code})`);
  }
}

function agentOf({ agentId, token }: Partial<RelayOptions>): string {
  if (!agentId && !token) return "-";
  if (!agentId)
    throw new ConfigurationError("RELAYTRACE_AGENT_ID is not set: it names the agent that the bearer key belongs to");
  if (!/^[a-z0-9][a-z0-9_-]{0,62}$/.test(agentId))
    throw new ConfigurationError(`RELAYTRACE_AGENT_ID (${agentId}) is no agent's name`);
  return agentId;
}

function secretOf({ responseSecret, verify }: Partial<RelayOptions>): Uint8Array<ArrayBuffer> | undefined {
  if (verify === false) return undefined;
  if (!responseSecret) {
    throw new ConfigurationError(
      "RELAYTRACE_RESPONSE_SECRET is not set: answers cannot be verified without it. It was returned when the key was " +
        "registered; only { verify: false } goes without",
    );
  }
  const bytes = Buffer.from(responseSecret, "base64");
  if (bytes.length < 16 || bytes.toString("base64") !== responseSecret.trim()) {
    throw new ConfigurationError(
      "RELAYTRACE_RESPONSE_SECRET is not the standard base64 text that registering the key returned",
    );
  }
  return Uint8Array.from(bytes);
}
