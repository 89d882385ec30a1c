// The action's digest, computed here from the very value that is shown: SHA-256 over its RFC 8785 form.
// If it is not the digest the server names, what is on screen is not what would be approved.

/** RFC 8785: members sorted by UTF-16 code units, strings and numbers as ECMAScript writes them. */
export function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value && typeof value === 'object' && typeof value.toJSON !== 'function') {
    return `{${Object.keys(value).sort().map((k) => `${JSON.stringify(k)}:${canonical(value[k])}`).join(',')}}`;
  }
  return JSON.stringify(value);
}

/** Over plain http, other than to this machine, a browser offers no digests. */
export const canDigest = Boolean(globalThis.crypto?.subtle);

/** "sha256:<hex>", or null where the browser cannot tell. */
export async function digestOf(action) {
  if (!canDigest) return null;
  const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(canonical(action)));
  return `sha256:${[...new Uint8Array(hash)].map((b) => b.toString(16).padStart(2, '0')).join('')}`;
}
