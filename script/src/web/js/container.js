// The container of an object, as its code has it: over the host, which knows whether it runs.
(function (internal) {
  'use strict';
  const { p, h, host } = internal;
  const { Error, RangeError, TypeError, isArray, objectKeys, stringIncludes, stringCharCodeAt, then, trunc } = p;
  const { finish, handled, illegal, isObject, rejected } = h;
  const natives = host.objects.container;
  const key = {};
  const [MOST_LABELS, MOST_NAME, MOST_VALUE] = [10, 16, 64];
  const LAST_SIGNAL = 64;
  const LAST_PORT = 65535;
  const absent = (what) => new Error(`${what} is not supported by this version of Berth.`);

  // A record's names and values in turn, each judged by `check(name, value, index)`.
  function pairsOf(record, what, check, most = Infinity) {
    if (record === undefined || record === null) return [];
    if (!isObject(record)) throw new TypeError(`Incorrect type for the '${what}' field on 'ContainerStartupOptions': the provided value is not of type 'object'.`);
    const names = objectKeys(record);
    if (names.length > most) throw new Error(`Cannot specify more than ${most} container ${what}`);
    const list = [];
    for (let i = 0; i < names.length; i++) {
      const value = `${record[names[i]]}`;
      check(names[i], value, i);
      list[2 * i] = names[i];
      list[2 * i + 1] = value;
    }
    return list;
  }
  function checkVariable(name, value) {
    if (stringIncludes(name, '=')) throw new Error(`Environment variable names cannot contain '=': ${name}`);
    if (stringIncludes(name, '\0')) throw new Error(`Environment variable names cannot contain '\\0': ${name}`);
    if (stringIncludes(value, '\0')) throw new Error(`Environment variable values cannot contain '\\0': ${name}`);
  }
  const bytesOf = (text) => p.typedLength(internal.natives.encode(text));
  function hasControl(text) {
    for (let i = 0; i < text.length; i++) {
      const code = stringCharCodeAt(text, i);
      if (code < 0x20) return true;
    }
    return false;
  }
  function checkLabel(name, value, index) {
    if (name === '') throw new Error('Label names cannot be empty');
    if (bytesOf(name) > MOST_NAME) throw new Error(`Label names cannot exceed ${MOST_NAME} bytes (index ${index})`);
    if (bytesOf(value) > MOST_VALUE) throw new Error(`Label values cannot exceed ${MOST_VALUE} bytes (index ${index})`);
    if (hasControl(name)) throw new Error(`Label names cannot contain control characters (index ${index})`);
    if (hasControl(value)) throw new Error(`Label values cannot contain control characters (index ${index})`);
  }
  function wordsOf(list) {
    if (list === undefined || list === null) return undefined;
    if (!isArray(list)) throw new TypeError("Incorrect type for the 'entrypoint' field on 'ContainerStartupOptions': the provided value is not of type 'Array'.");
    const words = [];
    for (let i = 0; i < list.length; i++) {
      words[i] = `${list[i]}`;
      if (stringIncludes(words[i], '\0')) throw new Error('The words of an entrypoint cannot contain \'\\0\'.');
    }
    return words.length === 0 ? undefined : words;
  }
  const LATER = ['image', 'instance', 'directorySnapshots', 'containerSnapshot', 'hardTimeout'];
  function optionsOf(options) {
    if (options !== undefined && options !== null && !isObject(options)) throw h.wrongArgument('Container', 'start', 1, 'ContainerStartupOptions');
    for (let i = 0; i < LATER.length; i++) if (h.member(options, LATER[i]) !== undefined) throw absent(`start() with '${LATER[i]}'`);
    return {
      __proto__: null, enableInternet: !!h.member(options, 'enableInternet'), env: pairsOf(h.member(options, 'env'), 'env', checkVariable),
      entrypoint: wordsOf(h.member(options, 'entrypoint')), labels: pairsOf(h.member(options, 'labels'), 'labels', checkLabel, MOST_LABELS),
    };
  }
  const whole = (value) => { const number = trunc(+value); return number === number ? number : 0; };

  // `reason` is what the run of this number was destroyed with.
  let stateOf;
  class Container {
    #state;
    static { stateOf = (container) => { if (typeof container !== 'object' || container === null || !(#state in container)) throw illegal(); return container.#state; }; }
    constructor(secret, instance) {
      if (secret !== key) throw new TypeError('Illegal constructor');
      this.#state = { __proto__: null, instance, reason: undefined };
    }
    get running() { return natives.running(stateOf(this).instance); }
    start(options = undefined) {
      const { instance } = stateOf(this);
      const refuse = () => { if (natives.running(instance)) throw new Error('start() cannot be called on a container that is already running.'); };
      refuse();
      const read = optionsOf(options);
      // Reading them may have run code that has started it.
      refuse();
      natives.start(instance, read);
    }
    monitor() {
      try {
        const c = stateOf(this);
        const run = natives.run(c.instance);
        return handled(then(natives.monitor(c.instance), ({ failure, code }) => {
          if (c.reason !== undefined && c.reason.run === run) throw c.reason.error;
          if (failure === undefined) return;
          const error = new Error(failure);
          if (code !== undefined) p.defineProperty(error, 'exitCode', { __proto__: null, value: code, writable: true, enumerable: true, configurable: true });
          throw error;
        }));
      } catch (error) { return rejected(error); }
    }
    destroy(error = undefined) {
      try {
        const c = stateOf(this);
        const run = natives.run(c.instance);
        if (error !== undefined && natives.running(c.instance) && c.reason?.run !== run) c.reason = { __proto__: null, run, error };
        return natives.destroy(c.instance);
      } catch (thrown) { return rejected(thrown); }
    }
    signal(signal) {
      const { instance } = stateOf(this);
      const number = whole(signal);
      if (!(number > 0 && number <= LAST_SIGNAL)) throw new RangeError('Invalid signal number.');
      if (!natives.running(instance)) throw new Error('signal() cannot be called on a container that is not running.');
      natives.signal(instance, number);
    }
    getTcpPort(port) {
      const { instance } = stateOf(this);
      const number = whole(port);
      if (!(number > 0 && number <= LAST_PORT)) throw new TypeError(`Invalid port number: ${number}`);
      return internal.dispatch.fetcher({ __proto__: null, instance, port: number });
    }
    setInactivityTimeout(durationMs) {
      try {
        const { instance } = stateOf(this);
        const ms = whole(durationMs);
        if (!(ms > 0)) throw new TypeError('setInactivityTimeout() cannot be called with a durationMs <= 0');
        natives.keepFor(instance, ms);
        return h.resolved();
      } catch (error) { return rejected(error); }
    }
    interceptOutboundHttp() { stateOf(this); throw absent('interceptOutboundHttp()'); }
    interceptAllOutboundHttp() { stateOf(this); throw absent('interceptAllOutboundHttp()'); }
    interceptOutboundHttps() { stateOf(this); throw absent('interceptOutboundHttps()'); }
    interceptOutboundTcp() { stateOf(this); throw absent('interceptOutboundTcp()'); }
    exec() { stateOf(this); throw absent('exec()'); }
    inspect() { stateOf(this); throw absent('inspect()'); }
    setLabels() { stateOf(this); throw absent('setLabels()'); }
    snapshotDirectory() { stateOf(this); throw absent('snapshotDirectory()'); }
    snapshotContainer() { stateOf(this); throw absent('snapshotContainer()'); }
  }
  finish(Container, 'Container');
  internal.shape(Container, 'Container', ['running']);
  // No global of the platform's: programs have classes of this name.
  delete internal.classes.Container;
  internal.container = (instance, className) => (natives.contained(className) ? new Container(key, instance) : undefined);
});
