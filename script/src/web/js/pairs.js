// Keys with two halves: RSA, those on curves, Ed25519 and X25519.
(function (internal) {
  'use strict';
  const { p, dom, natives } = internal;
  const { TypeError, typedLength } = p;
  const { native, seed, goOn, makeKey, needHash, needCurve, SIGN, CRYPT, DERIVE, has, publicOf, privateOf, checkUsages, duplicate, decoded, register } = internal.cryptoKeys;
  // Largest RSA key that is made, in bits: the time it takes grows with the fourth power.
  const MOST_RSA_BITS = 4096;
  const LEAST_RSA_BITS = 1024;

  const pair = (key, extractable, algorithm, usages) => {
    const forPrivate = privateOf(usages);
    if (forPrivate.length === 0) throw dom('SyntaxError', 'Attempt to generate asymmetric keys with no valid private key usages.');
    const publicKey = makeKey(key('public'), 'public', true, algorithm, publicOf(usages));
    return { publicKey, privateKey: makeKey(key, 'private', extractable, algorithm, forPrivate) };
  };
  function made(key, format) {
    if (typeof key === 'function') return key;
    const name = format === 'spki' ? 'SPKI' : 'PKCS8';
    if (typeof key === 'number') throw dom('DataError', `Invalid ${key} trailing bytes after ${name} input.`);
    return key === 'malformed' ? (() => { throw dom('DataError', `Invalid ${name} input.`); })() : key;
  }

  // ---- What all have in common when they are read ----

  // { key, type, usages }. `kind` is what the Rust side calls it; `allowed` are the usages of both halves.
  function read(name, kind, format, data, extractable, given, allowed, fromJwk, rawUsages) {
    if (format === 'jwk') return readJwk(name, data.jwk, extractable, given, allowed, fromJwk);
    if (format === 'spki' || format === 'pkcs8') {
      const key = made(native.import(kind, format, data.bytes), format);
      const type = format === 'spki' ? 'public' : 'private';
      return { key, type, usages: checkUsages(given, half(name, allowed, type), `import ${type}`, name) };
    }
    if (format === 'raw' && rawUsages !== undefined) return { key: undefined, type: 'public', usages: checkUsages(given, rawUsages, 'import public', name) };
    throw dom('NotSupportedError', `Unrecognized key import format "${format}".`);
  }
  const half = (name, allowed, type) => (type === 'private' ? privateOf(allowed) : publicOf(allowed));

  function readJwk(name, jwk, extractable, given, allowed, fromJwk) {
    const type = jwk.d !== undefined ? 'private' : 'public';
    const usages = checkUsages(given, half(name, allowed, type), `import ${type}`, name);
    if (type === 'private' && jwk.oth) throw dom('NotSupportedError', 'Multi-prime private keys not supported.');
    const deriving = name === 'ECDH' || name === 'X25519';
    const use = name === 'RSA-OAEP' || deriving ? 'enc' : 'sig';
    if (given.length > 0 && jwk.use !== undefined && jwk.use !== use)
      throw dom('DataError', `Asymmetric "jwk" key import with usages requires a JSON Web Key with Public Key Use parameter "use" ("${jwk.use}") equal to "sig".`);
    if (jwk.key_ops !== undefined) checkOps(name, jwk, given, use, deriving);
    return { key: fromJwk(jwk), type, usages };
  }
  function checkOps(name, jwk, given, use, deriving) {
    const ops = jwk.key_ops;
    if (duplicate(ops) !== undefined) throw dom('DataError', 'A JSON Web Key\'s Key Operations parameter ("key_ops") must not contain duplicates.');
    if (jwk.use !== undefined) checkUse(name, jwk, use, deriving);
    for (let i = 0; i < given.length; i++)
      if (!has(ops, given[i])) throw dom('DataError', 'All specified key usages must be present in the JSON Web Key\'s Key Operations parameter ("key_ops").');
  }
  function checkUse(name, jwk, use, deriving) {
    if (jwk.use !== use) throw dom('DataError', `Asymmetric "jwk" import requires a JSON Web Key with Public Key Use "use" ("${jwk.use}") equal to "${use}".`);
    const both = 'A JSON Web Key should have either a Public Key Use parameter ("use") or a Key Operations parameter ("key_ops"); otherwise, the parameters must be consistent with each other.';
    const allowed = name === 'RSA-OAEP' ? ['encrypt', 'wrapKey'] : ['sign', 'verify'];
    for (let i = 0; i < jwk.key_ops.length; i++) {
      if (deriving) throw dom('DataError', `${both} For public ${name} keys, there are no valid usages,so keys with a non-empty "key_ops" parameter are not allowed.`);
      const op = jwk.key_ops[i];
      if (!has(allowed, op))
        throw dom('DataError', `${both} A Public Key Use for ${name} would allow a Key Operations array with only "${allowed[0]}" and/or "${allowed[1]}" values (not "${op}").`);
    }
  }

  // ---- RSA ----

  const rsaUsages = (name) => (name === 'RSA-OAEP' ? CRYPT : SIGN);
  // The exponent as a number, undefined where it is too large.
  function exponentOf(bytes) {
    let value = 0;
    for (let i = 0; i < typedLength(bytes); i++) { value = value * 256 + bytes[i]; if (value > 0xffffffff) return undefined; }
    return value;
  }
  function checkModulus(bits) {
    if (bits % 8 !== 0 || bits < 256 || bits > 16384) throw dom('OperationError', `The modulus length must be a multiple of 8 and between 256 and 16k, but ${bits} was requested.`);
  }
  const largeExponent = () => dom('OperationError', 'The "publicExponent" must be either 3 or 65537, but got a number larger than 2^32.');
  function generateRsa(name, algorithm, extractable, given) {
    if (algorithm.publicExponent === undefined) throw new TypeError('Missing field "publicExponent" in "algorithm".');
    if (algorithm.hash === undefined) throw new TypeError('Missing field "hash" in "algorithm".');
    const bits = algorithm.modulusLength;
    if (bits === undefined) throw new TypeError('Missing field "modulusLength" in "algorithm".');
    if (bits <= 0) throw dom('OperationError', `modulusLength must be greater than zero (requested ${bits}).`);
    const hash = needHash(algorithm);
    const usages = checkUsages(given, rsaUsages(name), 'generate', name);
    checkModulus(bits);
    const exponent = exponentOf(algorithm.publicExponent);
    if (exponent === undefined) throw largeExponent();
    if (exponent !== 3 && exponent !== 65537) throw dom('OperationError', `The "publicExponent" must be either 3 or 65537, but got ${exponent}.`);
    if (bits % 128 !== 0) throw dom('OperationError', "Can't generate key: RSA key size is required to be a multiple of 128");
    if (bits < LEAST_RSA_BITS || bits > MOST_RSA_BITS) throw dom('OperationError', `RSA keys of ${LEAST_RSA_BITS} to ${MOST_RSA_BITS} bits can be made here, but ${bits} was requested.`);
    const key = made(native.generate('RSA', seed(), bits, exponent, goOn));
    return pair(key, extractable, { name, modulusLength: bits, publicExponent: natives.copy(algorithm.publicExponent), hash }, usages);
  }
  function importRsa(name, format, data, algorithm, extractable, given) {
    const hash = needHash(algorithm);
    const { key, type, usages } = read(name, 'RSA', format, data, extractable, given, rsaUsages(name), (jwk) => rsaJwk(jwk, hash));
    if (typeof key !== 'function') throw dom('DataError', 'Input was not an RSA key.');
    const size = key('size');
    checkModulus(size[0]);
    const exponent = exponentOf(size[1]);
    if (exponent === undefined) throw largeExponent();
    if (exponent !== 3 && exponent !== 17 && exponent !== 37 && exponent !== 65537) throw dom('OperationError', `Imported RSA key has invalid publicExponent ${exponent}.`);
    return makeKey(key, type, extractable, { name, modulusLength: size[0], publicExponent: size[1], hash }, usages);
  }
  const RSA_ALGORITHMS = {
    __proto__: null, RS1: 'SHA-1', RS256: 'SHA-256', RS384: 'SHA-384', RS512: 'SHA-512', PS1: 'SHA-1', PS256: 'SHA-256', PS384: 'SHA-384', PS512: 'SHA-512',
    'RSA-OAEP': 'SHA-1', 'RSA-OAEP-256': 'SHA-256', 'RSA-OAEP-384': 'SHA-384', 'RSA-OAEP-512': 'SHA-512',
  };
  const PRIVATE = [
    ['p', 'invalid First Prime Factor parameter ("p").'], ['q', 'invalid Second Prime Factor parameter ("q").'],
    ['dp', 'invalid First Factor CRT Exponent parameter ("dp").'], ['dq', 'invalid Second Factor CRT Exponent parameter ("dq").'], ['qi', 'invalid First CRT Coefficient parameter ("qi").'],
  ];
  function rsaJwk(jwk, hash) {
    if (jwk.kty !== 'RSA') throw dom('DataError', `RSASSA-PKCS1-v1_5 "jwk" key import requires a JSON Web Key with Key Type parameter "kty" ("${jwk.kty}") equal to "RSA".`);
    if (jwk.alg !== undefined) {
      if (RSA_ALGORITHMS[jwk.alg] === undefined) throw unknownAlg(jwk.alg);
      if (RSA_ALGORITHMS[jwk.alg] !== hash) throw dom('DataError', `JSON Web Key Algorithm parameter "alg" ("${jwk.alg}") does not match requested hash algorithm "${jwk.alg}".`);
    }
    const invalid = 'Invalid RSA key in JSON Web Key;';
    const n = decoded(jwk.n, `${invalid} missing or invalid Modulus parameter ("n").`);
    const e = decoded(jwk.e, `${invalid} missing or invalid Exponent parameter ("e").`);
    if (jwk.d === undefined) return sound(native.import('RSA', 'jwk', n, e), invalid);
    const d = decoded(jwk.d, `${invalid} missing or invalid Private Exponent parameter ("d").`);
    let present = 0;
    for (let i = 0; i < PRIVATE.length; i++) if (jwk[PRIVATE[i][0]] !== undefined) present++;
    if (present === 0) return sound(native.import('RSA', 'jwk', n, e, d), invalid);
    if (present !== PRIVATE.length)
      throw dom('DataError', 'Invalid RSA private key in JSON Web Key; if one Prime Factor or CRT Exponent/Coefficient parameter is present, then they must all be present ("p", "q", "dp", "dq", "qi").');
    const rest = [];
    for (let i = 0; i < PRIVATE.length; i++) rest[i] = decoded(jwk[PRIVATE[i][0]], `${invalid} ${PRIVATE[i][1]}`);
    return sound(native.import('RSA', 'jwk', n, e, d, rest[0], rest[1], rest[2], rest[3], rest[4]), invalid);
  }
  const unknownAlg = (alg) => dom('NotSupportedError', `Unrecognized or unimplemented algorithm "${alg}" listed in JSON Web Key Algorithm parameter.`);
  function sound(key, invalid) {
    if (typeof key !== 'function') throw dom('DataError', `${invalid} its numbers do not go together, or its modulus has not ${LEAST_RSA_BITS} to 8192 bits.`);
    return key;
  }
  for (const name of ['RSASSA-PKCS1-v1_5', 'RSA-PSS', 'RSA-OAEP']) register(name, generateRsa, importRsa);

  // ---- P-256, P-384, P-521 ----

  const curveUsages = (name) => (name === 'ECDSA' ? SIGN : DERIVE);
  function generateCurve(name, algorithm, extractable, given) {
    const usages = checkUsages(given, curveUsages(name), 'generate', name);
    const namedCurve = needCurve(algorithm);
    return pair(native.generate(namedCurve, seed()), extractable, { name, namedCurve }, usages);
  }
  function importCurve(name, format, data, algorithm, extractable, given) {
    const namedCurve = needCurve(algorithm);
    const rawUsages = name === 'ECDSA' ? ['verify'] : [];
    const found = read(name, namedCurve, format, data, extractable, given, curveUsages(name), (jwk) => curveJwk(jwk, namedCurve, name), rawUsages);
    const key = found.key ?? native.import(namedCurve, 'raw', data.bytes);
    if (key === 'malformed') throw dom('DataError', `Failed to import raw EC key data${typedLength(data.bytes) === 0 ? '.' : ': Invalid point encoding..'}`);
    if (key === 'kind') throw dom('DataError', name === 'ECDSA' ? 'Input was not an EC key.' : 'Input was not an EC public key nor a DH key.');
    if (key === 'curve') throw dom('DataError', `"algorithm.namedCurve" "${algorithm.namedCurve}"${name === 'ECDSA' ? '' : ','} does not match the curve specified by the input key data.`);
    return makeKey(key, found.type, extractable, { name, namedCurve }, found.usages);
  }
  const CURVE_ALGORITHMS = { __proto__: null, ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' };
  function curveJwk(jwk, curve, name) {
    if (jwk.kty !== 'EC') throw dom('DataError', `Elliptic curve "jwk" key import requires a JSON Web Key with Key Type parameter "kty" ("${jwk.kty}") equal to "EC".`);
    if (name === 'ECDSA' && jwk.alg !== undefined) {
      if (CURVE_ALGORITHMS[jwk.alg] === undefined) throw unknownAlg(jwk.alg);
      if (CURVE_ALGORITHMS[jwk.alg] !== curve) throw dom('DataError', `JSON Web Key Algorithm parameter "alg" ("${jwk.alg}") does not match requested curve.`);
    }
    const x = decoded(jwk.x, 'Invalid EC key in JSON Web Key; missing "x".');
    const y = decoded(jwk.y, 'Invalid EC key in JSON Web Key; missing "y".');
    const half = native.import(curve, 'jwk', x, y);
    if (typeof half !== 'function') throw dom('OperationError', 'Invalid EC key; public key coordinates "x" and "y" are invalid: Point is not on curve..');
    if (jwk.d === undefined) return half;
    const d = decoded(jwk.d, 'Invalid EC key in JSON Web Key; missing or invalid private key component ("d").');
    const key = native.import(curve, 'jwk', x, y, d);
    if (typeof key !== 'function') throw dom('DataError', 'Invalid EC key in JSON Web Key.');
    return key;
  }
  for (const name of ['ECDSA', 'ECDH']) register(name, generateCurve, importCurve);

  // ---- Ed25519 and X25519 ----

  const kindOf = (name) => (name === 'X25519' ? 'X25519' : 'Ed25519');
  const okpUsages = (name) => (name === 'X25519' ? DERIVE : SIGN);
  // The name by which Node once had it comes with a curve of that name.
  const NODE = 'NODE-ED25519';
  function okpAlgorithm(name, algorithm) {
    if (name !== NODE) return { name };
    if (algorithm.namedCurve === undefined) throw new TypeError('Missing field "namedCurve" in "algorithm".');
    if (algorithm.namedCurve !== NODE) throw dom('NotSupportedError', `EDDSA curve "${algorithm.namedCurve}" isn't supported.`);
    return { name, namedCurve: NODE };
  }
  function generateOkp(name, algorithm, extractable, given) {
    const usages = checkUsages(given, okpUsages(name), 'generate', name);
    const shown = okpAlgorithm(name, algorithm);
    return pair(native.generate(kindOf(name), seed()), extractable, shown, usages);
  }
  function importOkp(name, format, data, algorithm, extractable, given) {
    const shown = okpAlgorithm(name, algorithm);
    const kind = kindOf(name);
    const found = read(name, kind, format, data, extractable, given, okpUsages(name), (jwk) => okpJwk(jwk, kind), name === 'X25519' ? [] : ['verify']);
    const key = found.key ?? native.import(kind, 'raw', data.bytes);
    if (key === 'malformed') throw dom('DataError', `${kind} raw keys must be exactly 32-bytes (provided ${typedLength(data.bytes)}).`);
    if (typeof key !== 'function') throw dom('DataError', `Input was not an ${kind} key.`);
    return makeKey(key, found.type, extractable, shown, found.usages);
  }
  function okpJwk(jwk, kind) {
    if (jwk.kty !== 'OKP') throw dom('DataError', `${kind} "jwk" key imports requires a JSON Web Key with Key Type parameter "kty" ("${jwk.kty}") equal to "OKP".`);
    if (jwk.crv === undefined) throw dom('DataError', `Missing field "crv" for ${kind} key.`);
    if (jwk.crv !== kind) throw dom('NotSupportedError', `Only ${kind} is supported but "${jwk.crv}" was requested.`);
    if (kind === 'Ed25519' && jwk.alg !== undefined && jwk.alg !== 'EdDSA') throw dom('DataError', `JSON Web Key Algorithm parameter "alg" ("${jwk.alg}") does not match requested Ed25519 curve.`);
    const x = decoded(jwk.x, `Invalid ${kind} key in JSON WebKey; missing or invalid public key component ("x").`);
    if (typedLength(x) !== 32) throw dom('DataError', `Invalid length ${typedLength(x)} for public key`);
    if (jwk.d === undefined) return native.import(kind, 'jwk', x);
    const d = decoded(jwk.d, `Invalid ${kind} key in JSON Web Key; missing or invalid private key component ("d").`);
    if (typedLength(d) !== 32) throw dom('DataError', `Invalid length ${typedLength(d)} for private key`);
    return native.import(kind, 'jwk', x, d);
  }
  for (const name of ['Ed25519', NODE, 'X25519']) register(name, generateOkp, importOkp);
});
