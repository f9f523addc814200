// CryptoKey, and how keys are made, read and written. The key itself is in Rust: `state.key` is a function that runs its operations.
(function (internal) {
  'use strict';
  const { p, h, dom, host, natives, shape } = internal;
  const { TypeError, Uint8Array, arrayIndexOf, isArray, typedLength } = p;
  const { finish, illegal } = h;
  const native = natives.subtle;
  const { fromBase64 } = Uint8Array;
  const toBase64 = p.uncurry(Uint8Array.prototype.toBase64);

  // Chance for one operation; outside of events there is none.
  const random = (count) => { internal.inEvent(); const bytes = new Uint8Array(count); host.random(bytes); return bytes; };
  const seed = () => random(32);
  // Ends a script that has used up its time: what is calculated in Rust goes on for longer than the engine looks away.
  const goOn = () => { if (host.goOn !== undefined) host.goOn(); };

  let keyOf;
  let makeKey;
  class CryptoKey {
    #state;
    static {
      keyOf = (key) => { if (typeof key !== 'object' || key === null || !(#state in key)) throw illegal(); return key.#state; };
      internal.isCryptoKey = (value) => typeof value === 'object' && value !== null && #state in value;
      makeKey = (key, type, extractable, algorithm, usages) => new CryptoKey(internal, { key, type, extractable, algorithm, usages, shown: undefined, listed: undefined });
    }
    constructor(secret, state) { if (secret !== internal) throw new TypeError('Illegal constructor'); this.#state = state; }
    get type() { return keyOf(this).type; }
    get extractable() { return keyOf(this).extractable; }
    get algorithm() { const state = keyOf(this); return (state.shown ??= show(state.algorithm)); }
    get usages() { const state = keyOf(this); return (state.listed ??= p.arraySlice(state.usages)); }
  }
  finish(CryptoKey, 'CryptoKey');
  shape(CryptoKey, 'CryptoKey', ['usages', 'algorithm', 'extractable', 'type']);

  // An algorithm as users see it: a copy, so that what they change in it changes nothing here.
  function show(algorithm) {
    const shown = { name: algorithm.name };
    if (algorithm.modulusLength !== undefined) { shown.modulusLength = algorithm.modulusLength; shown.publicExponent = natives.copy(algorithm.publicExponent); }
    if (algorithm.hash !== undefined) shown.hash = { name: algorithm.hash };
    if (algorithm.length !== undefined) shown.length = algorithm.length;
    if (algorithm.namedCurve !== undefined) shown.namedCurve = algorithm.namedCurve;
    return shown;
  }

  // ---- Names ----

  const registry = (names) => { const found = { __proto__: null }; for (const name of names) found[natives.asciiLower(name)] = name; return (name) => found[natives.asciiLower(name)]; };
  const hashNamed = registry(['SHA-1', 'SHA-256', 'SHA-384', 'SHA-512', 'MD5']);
  const curveNamed = registry(['P-256', 'P-384', 'P-521']);
  const hashBits = { __proto__: null, MD5: 128, 'SHA-1': 160, 'SHA-256': 256, 'SHA-384': 384, 'SHA-512': 512 };
  const blockBits = { __proto__: null, MD5: 512, 'SHA-1': 512, 'SHA-256': 512, 'SHA-384': 1024, 'SHA-512': 1024 };
  function digestName(name) {
    const hash = hashNamed(name);
    if (hash === undefined) throw dom('NotSupportedError', 'Unrecognized or unimplemented digest algorithm requested.');
    return hash;
  }
  function needHash(algorithm, where = 'algorithm') {
    if (algorithm.hash === undefined) throw new TypeError(`Missing field "hash" in "${where}".`);
    return digestName(algorithm.hash);
  }
  function needCurve(algorithm) {
    if (algorithm.namedCurve === undefined) throw new TypeError('Missing field "namedCurve" in "algorithm".');
    const curve = curveNamed(algorithm.namedCurve);
    if (curve === undefined) throw dom('NotSupportedError', `Unrecognized or unimplemented EC curve "${algorithm.namedCurve}" requested.`);
    return curve;
  }
  const shaSize = (hash, text) => { if (hash === 'MD5') throw dom('NotSupportedError', text(hash)); return p.stringSlice(hash, 4); };

  // ---- Usages ----

  const USAGES = ['encrypt', 'decrypt', 'sign', 'verify', 'deriveKey', 'deriveBits', 'wrapKey', 'unwrapKey'];
  const PUBLIC = ['encrypt', 'verify', 'wrapKey'];
  const CRYPT = ['encrypt', 'decrypt', 'wrapKey', 'unwrapKey'];
  const WRAP = ['wrapKey', 'unwrapKey'];
  const SIGN = ['sign', 'verify'];
  const DERIVE = ['deriveKey', 'deriveBits'];
  const has = (list, item) => arrayIndexOf(list, item) >= 0;
  const pick = (list, test) => { const picked = []; for (let i = 0; i < list.length; i++) if (test(list[i])) picked[picked.length] = list[i]; return picked; };
  const publicOf = (usages) => pick(usages, (usage) => has(PUBLIC, usage));
  const privateOf = (usages) => pick(usages, (usage) => !has(PUBLIC, usage));
  // The usages in their order, each once; `deed` says for what they were given.
  function checkUsages(given, allowed, deed, name) {
    for (let i = 0; i < given.length; i++) if (!has(allowed, given[i])) throw dom('SyntaxError', `Attempt to ${deed} ${name} key with invalid usage "${given[i]}".`);
    return pick(USAGES, (usage) => has(given, usage));
  }

  // ---- Secret keys ----

  function secretOf(bytes) {
    const key = native.secret(bytes);
    native.wipe(bytes);
    return key;
  }
  const aesUsages = (name) => (name === 'AES-KW' ? WRAP : CRYPT);
  const aesBits = (bits) => bits === 128 || bits === 192 || bits === 256;
  function generateAes(name, algorithm, extractable, given) {
    const usages = checkUsages(given, aesUsages(name), 'generate', name);
    const { length } = algorithm;
    if (length === undefined) throw new TypeError('Missing field "length" in "algorithm".');
    if (!aesBits(length)) throw dom('OperationError', `Generated AES key length must be 128, 192, or 256 bits but requested ${length}.`);
    return makeKey(secretOf(random(length / 8)), 'secret', extractable, { name, length }, usages);
  }
  function importAes(name, format, data, algorithm, extractable, given) {
    const usages = checkUsages(given, aesUsages(name), 'import secret', name);
    const bytes = secretBytes(format, data, (jwk) => {
      if (jwk.kty !== 'oct') throw dom('DataError', `Symmetric "jwk" key import requires a JSON Web Key with Key Type parameter "kty" equal to "oct" (encountered "${jwk.kty}").`);
      return decoded(jwk.k, 'Symmetric "jwk" key import requires a base64Url encoding of the key.');
    });
    const length = typedLength(bytes) * 8;
    if (!aesBits(length)) throw dom('DataError', `Imported AES key length must be 128, 192, or 256 bits but provided ${length}.`);
    if (format === 'jwk') checkSecretJwk(data.jwk, `A${length}${p.stringSlice(name, 4)}`, given);
    return makeKey(native.secret(bytes), 'secret', extractable, { name, length }, usages);
  }
  function checkSecretJwk(jwk, alg, given) {
    if (jwk.alg !== undefined && jwk.alg !== alg) throw dom('DataError', `Symmetric "jwk" key contains invalid "alg" value "${jwk.alg}", expected "${alg}".`);
    if (given.length > 0 && jwk.use !== undefined && jwk.use !== 'enc') throw dom('DataError', `Symmetric "jwk" key must have a "use" of "enc", not "${jwk.use}".`);
    if (jwk.key_ops === undefined) return;
    const twice = duplicate(jwk.key_ops);
    if (twice !== undefined) throw dom('DataError', `Symmetric "jwk" key contains duplicate value "${twice}", in "key_op".`);
    for (let i = 0; i < given.length; i++) if (!has(jwk.key_ops, given[i])) throw dom('DataError', `"jwk" key missing usage "${given[i]}", in "key_ops".`);
  }
  function duplicate(list) { for (let i = 0; i < list.length; i++) if (arrayIndexOf(list, list[i]) !== i) return list[i]; return undefined; }
  function secretBytes(format, data, fromJwk) {
    if (format === 'raw' || format === 'raw-secret') return data.bytes;
    if (format === 'jwk') return fromJwk(data.jwk);
    throw dom('NotSupportedError', `Unrecognized key import format "${format}".`);
  }
  function generateHmac(name, algorithm, extractable, given) {
    const hash = needHash(algorithm);
    const usages = checkUsages(given, SIGN, 'generate', name);
    const length = algorithm.length ?? blockBits[hash];
    if (length <= 0) throw dom('OperationError', `HMAC key length must be a non-zero unsigned long integer (requested ${length}).`);
    if (length > MOST_HMAC_BITS) throw dom('OperationError', `HMAC keys have at most ${MOST_HMAC_BITS} bits here.`);
    const bytes = random(p.floor((length + 7) / 8));
    return makeKey(secretOf(cutBits(bytes, length)), 'secret', extractable, { name, hash, length }, usages);
  }
  // As many as chance gives at once (64 KiB).
  const MOST_HMAC_BITS = 65536 * 8;
  // Clears the bits of the last byte that are none of the key's.
  function cutBits(bytes, bits) {
    const left = bits % 8;
    if (left !== 0) bytes[typedLength(bytes) - 1] &= 0xff00 >> left;
    return bytes;
  }
  function importHmac(name, format, data, algorithm, extractable, given) {
    const usages = checkUsages(given, SIGN, 'import secret', name);
    const hash = needHash(algorithm);
    const bytes = natives.copy(secretBytes(format, data, (jwk) => hmacJwk(jwk, hash)));
    const size = typedLength(bytes) * 8;
    const length = algorithm.length ?? size;
    if (length <= 0 || length > size || length <= size - 8)
      throw dom('DataError', `Imported HMAC key length (${length}) must be a non-zero value up to 7 bits less than, and no greater than, the bit length of the raw key data (${size}).`);
    return makeKey(secretOf(cutBits(bytes, length)), 'secret', extractable, { name, hash, length }, usages);
  }
  function hmacJwk(jwk, hash) {
    if (jwk.kty !== 'oct') throw dom('DataError', `HMAC "jwk" key import requires a JSON Web Key with Key Type parameter ("kty") equal to "oct" (encountered "${jwk.kty}").`);
    const bytes = decoded(jwk.k, 'HMAC "jwk" key import requires a base64Url encoding of the key');
    if (jwk.alg === undefined) return bytes;
    const alg = `HS${shaSize(hash, () => `Unrecognized or unimplemented hash algorithm requested${jwk.alg}`)}`;
    if (jwk.alg !== alg) throw dom('DataError', `HMAC "jwk" key import specifies "alg" that is incompatible with the hash name (encountered "${jwk.alg}", expected "${alg}").`);
    return bytes;
  }
  const importBase = (end) => (name, format, data, algorithm, extractable, given) => {
    const usages = checkUsages(given, DERIVE, 'import secret', name);
    if (extractable) throw dom('SyntaxError', `${name} key cannot be extractable.`);
    if (format !== 'raw' && format !== 'raw-secret') throw dom('NotSupportedError', `${name} key must be imported in "raw" format (requested "${format}")${end}`);
    return makeKey(native.secret(data.bytes), 'secret', false, { name }, usages);
  };

  // ---- JSON Web Keys ----

  // Both alphabets are read.
  const urlSafe = (text) => p.arrayJoin(p.stringSplit(p.arrayJoin(p.stringSplit(text, '+'), '-'), '/'), '_');
  function decoded(text, why) {
    if (text !== undefined)
      try { return p.apply(fromBase64, Uint8Array, [urlSafe(text), { __proto__: null, alphabet: 'base64url' }]); } catch {}
    throw dom('DataError', why);
  }
  const encoded = (bytes) => toBase64(bytes, { __proto__: null, alphabet: 'base64url', omitPadding: true });

  internal.cryptoKeys = {
    __proto__: null, native, random, seed, goOn, keyOf, makeKey, hashNamed, hashBits, blockBits, digestName, needHash, needCurve, shaSize,
    SIGN, CRYPT, DERIVE, has, pick, publicOf, privateOf, checkUsages, duplicate, decoded, encoded, secretOf,
    algorithms: { __proto__: null },
  };
  const { algorithms } = internal.cryptoKeys;
  internal.cryptoKeys.register = (name, generate, read) => { algorithms[natives.asciiLower(name)] = { __proto__: null, name, generate, import: read }; };
  const { register } = internal.cryptoKeys;
  for (const name of ['AES-CTR', 'AES-CBC', 'AES-GCM', 'AES-KW']) register(name, generateAes, importAes);
  register('HMAC', generateHmac, importHmac);
  register('PBKDF2', undefined, importBase('.'));
  register('HKDF', undefined, importBase(''));
});
