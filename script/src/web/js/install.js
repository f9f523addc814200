// Puts the web classes where user code finds them, and takes away what it may not have.
(function (internal) {
  'use strict';
  const { p, h } = internal;
  const { defineProperty, EvalError, getPrototypeOf, isArray, objectKeys, freeze } = p;

  // Code from strings: every way there is to a constructor of functions.
  function refuseStrings(global) {
    const kinds = [function () {}, async function () {}, function* () {}, async function* () {}];
    for (let i = 0; i < kinds.length; i++) {
      const proto = getPrototypeOf(kinds[i]);
      const { name } = proto.constructor;
      const Refused = { [name]: function () { throw new EvalError('Code generation from strings disallowed for this context'); } }[name];
      defineProperty(Refused, 'prototype', { value: proto, writable: false });
      defineProperty(Refused, 'length', { value: 1 });
      p.setPrototypeOf(Refused, i === 0 ? proto : global.Function);
      defineProperty(proto, 'constructor', { value: Refused, writable: i === 0, configurable: true });
      if (i === 0) defineProperty(global, 'Function', { value: Refused, writable: true, configurable: true });
    }
    const refused = { eval() { throw new EvalError('Code generation from strings disallowed for this context'); } };
    defineProperty(global, 'eval', { value: refused.eval, writable: true, configurable: true });
  }

  internal.settings = { __proto__: null, date: '', flags: [] };
  internal.has = (flag) => p.arrayIndexOf(internal.settings.flags, flag) >= 0;
  // What changes on a day of the compatibility date.
  internal.since = (date) => internal.settings.date >= date;

  // settings: { date: 'YYYY-MM-DD', flags: [names], env: { variables of process.env } }, or the list of flags alone.
  internal.dispatch.install = (global, settings) => {
    const flags = isArray(settings) ? settings : settings?.flags ?? [];
    internal.settings = { __proto__: null, date: settings?.date ?? '9999-12-31', flags };
    const put = (name, value) => defineProperty(global, name, { value, writable: true, enumerable: false, configurable: true });
    for (const name of objectKeys(internal.classes)) put(name, internal.classes[name]);
    for (const name of objectKeys(internal.globals)) put(name, internal.globals[name]);
    put('self', global);
    put('origin', 'null');
    const set = { __proto__: null };
    for (let i = 0; i < flags.length; i++) set[flags[i]] = true;
    put('Cloudflare', freeze({ compatibilityFlags: freeze(set) }));
    defineProperty(global, Symbol.toStringTag, { value: 'ServiceWorkerGlobalScope', configurable: true });
    if (internal.has('nodejs_compat')) installNode(put, global, settings?.env);
    refuseStrings(global);
  };

  // As much of Node as programs of tier 0 look at.
  function installNode(put, global, env) {
    const values = {};
    for (const name of objectKeys(env ?? {})) values[name] = `${env[name]}`;
    put('process', {
      env: values, platform: 'linux', version: 'v22.19.0', versions: { node: '22.19.0' }, argv: ['workerd'], release: { name: 'node' }, arch: 'x64',
      cwd: () => '/bundle',
      nextTick(callback, ...args) { h.microtask(() => p.apply(callback, undefined, args)); },
    });
    put('global', global);
    put('setImmediate', internal.setImmediate);
    put('clearImmediate', internal.clearImmediate);
  }
});
