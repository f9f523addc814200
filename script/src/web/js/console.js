// console: each call is one line of the log.
(function (internal) {
  'use strict';
  const { p, h, host, inspect } = internal;
  const { SafeMap, apply, arrayJoin, arraySlice, defineProperty, is, isArray, jsonStringify, numberToString, objectKeys, stringRepeat, stringSlice, stringSplit, stringPadEnd, symbolToString, bigintToString, trunc, parseFloat, max } = p;

  const whole = (value) => {
    if (typeof value === 'bigint') return `${bigintToString(value)}n`;
    if (typeof value === 'symbol' || typeof value === 'object') return 'NaN';
    const number = trunc(parseFloat(value));
    return is(number, -0) ? '-0' : `${number}`;
  };
  const number = (value) => {
    if (typeof value === 'bigint') return `${bigintToString(value)}n`;
    if (typeof value === 'symbol' || typeof value === 'object') return 'NaN';
    return is(+value, -0) ? '-0' : `${+value}`;
  };
  function text(value) {
    if (typeof value === 'string') return value;
    if (typeof value === 'symbol') return symbolToString(value);
    if (h.isObject(value)) return inspect(value, 0);
    return inspect(value);
  }
  function json(value) {
    try { return jsonStringify(value) ?? 'undefined'; } catch { return '[Circular]'; }
  }
  const directives = {
    __proto__: null, s: text, d: number, i: whole, f: (value) => (typeof value === 'symbol' ? 'NaN' : `${parseFloat(value)}`), j: json,
    o: (value) => inspect(value, 4), O: (value) => inspect(value), c: () => '',
  };

  function format(args) {
    let out = '';
    let next = 0;
    if (typeof args[0] === 'string') {
      next = 1;
      const template = args[0];
      let from = 0;
      for (let i = 0; args.length > 1 && i < template.length - 1; i++) {
        if (template[i] !== '%') continue;
        const directive = directives[template[i + 1]];
        if (template[i + 1] === '%') {
          out += stringSlice(template, from, i) + '%';
        } else if (directive !== undefined && next < args.length) {
          out += stringSlice(template, from, i) + directive(args[next++]);
        } else continue;
        from = i + 2;
        i++;
      }
      out += stringSlice(template, from);
    }
    for (; next < args.length; next++) out += (next > 0 ? ' ' : '') + (typeof args[next] === 'string' ? args[next] : inspect(args[next]));
    return out;
  }
  internal.format = format;

  let indent = '';
  function print(level, line) {
    if (indent !== '') line = indent + arrayJoin(stringSplit(line, '\n'), `\n${indent}`);
    host.log(level, line);
  }
  internal.print = print;
  const counts = new SafeMap();
  const starts = new SafeMap();
  const label = (value) => (value === undefined ? 'default' : `${value}`);
  const elapsed = (name) => {
    const start = starts.get(name);
    return start === undefined ? undefined : `${name}: ${numberToString(p.round((host.perf() - start) * 1000) / 1000)}ms`;
  };

  function table(data) {
    if (!h.isObject(data)) return print('log', format([data]));
    const rows = [];
    const columns = ['(index)'];
    const keys = objectKeys(data);
    for (let i = 0; i < keys.length; i++) {
      const row = { __proto__: null, '(index)': keys[i] };
      const item = data[keys[i]];
      const names = h.isObject(item) ? objectKeys(item) : [];
      if (!h.isObject(item)) row.Values = inspect(item);
      for (let j = 0; j < names.length; j++) row[names[j]] = inspect(item[names[j]], 0);
      for (const name in row) if (p.arrayIndexOf(columns, name) < 0) columns[columns.length] = name;
      rows[i] = row;
    }
    print('log', draw(columns, rows));
  }
  function draw(columns, rows) {
    const widths = [];
    for (let i = 0; i < columns.length; i++) {
      widths[i] = columns[i].length + 2;
      for (let j = 0; j < rows.length; j++) widths[i] = max(widths[i], (rows[j][columns[i]] ?? '').length + 2);
    }
    const rule = (left, cross, right) => {
      let out = left;
      for (let i = 0; i < widths.length; i++) out += (i > 0 ? cross : '') + stringRepeat('─', widths[i]);
      return out + right;
    };
    const line = (cell) => {
      let out = '│';
      for (let i = 0; i < widths.length; i++) out += stringPadEnd(` ${cell(columns[i])}`, widths[i], ' ') + '│';
      return out;
    };
    let out = `${rule('┌', '┬', '┐')}\n${line((name) => name)}\n${rule('├', '┼', '┤')}`;
    for (let j = 0; j < rows.length; j++) out += `\n${line((name) => rows[j][name] ?? '')}`;
    return `${out}\n${rule('└', '┴', '┘')}`;
  }

  const console = {
    debug(...args) { print('debug', format(args)); },
    error(...args) { print('error', format(args)); },
    info(...args) { print('info', format(args)); },
    log(...args) { print('log', format(args)); },
    warn(...args) { print('warn', format(args)); },
    dir(value) { print('log', inspect(value)); },
    dirxml(...args) { print('log', format(args)); },
    table,
    trace(...args) { print('error', `Trace${args.length > 0 ? `: ${format(args)}` : ''}\n${internal.errorText(new p.Error())}`); },
    group(...args) { if (args.length > 0) print('log', format(args)); indent += '  '; },
    groupCollapsed(...args) { if (args.length > 0) print('log', format(args)); indent += '  '; },
    groupEnd() { indent = stringSlice(indent, 2); },
    clear() {},
    count(name) { name = label(name); const count = (counts.get(name) ?? 0) + 1; counts.set(name, count); print('log', `${name}: ${count}`); },
    countReset(name) { counts.delete(label(name)); },
    assert(truth, ...args) {
      if (truth) return;
      if (typeof args[0] === 'string') args[0] = `Assertion failed: ${args[0]}`;
      else args = p.arrayConcat(['Assertion failed'], args);
      print('error', format(args));
    },
    profile() {}, profileEnd() {}, timeStamp() {},
    time(name) { starts.set(label(name), host.perf()); },
    timeLog(name, ...args) { const line = elapsed(label(name)); if (line !== undefined) print('log', format(p.arrayConcat([line], args))); },
    timeEnd(name) { const line = elapsed(label(name)); if (line !== undefined) print('log', line); starts.delete(label(name)); },
  };
  internal.globals.console = console;
});
