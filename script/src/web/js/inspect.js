// Values as `console.log` shows them: the layout is that of Node's `util.inspect` with its defaults.
(function (internal) {
  'use strict';
  const { p, h, natives } = internal;
  const {
    SafeMap, SafeSet, apply, arrayJoin, bigintToString, bufferLength, dateTime, dateToISO, errorToString, floor, functionToString,
    getOwnPropertyDescriptor, getPrototypeOf, isArray, isEnumerable, isView, mapForEach, mapSize, max, min, numberToString, ownKeys, regexpExec,
    regexpToString, round, setForEach, setSize, sqrt, stringEndsWith, stringIncludes, stringPadEnd, stringPadStart, stringRepeat, stringSlice,
    stringSplit, stringStartsWith, symbolToString, typedLength, viewName, hasOwn, is, Uint8Array, String,
  } = p;
  const WIDTH = 80;
  const DEPTH = 2;
  const ITEMS = 100;
  const CHARS = 10000;
  const LEVELS = 3;

  // How instances of the web classes look: by prototype, the getters to show, or a function that gives [key, value] pairs.
  const shapes = new SafeMap();
  internal.names = new SafeMap();
  internal.shape = (Class, name, look) => {
    internal.names.set(Class.prototype, name);
    shapes.set(Class.prototype, { __proto__: null, name, look });
  };
  const inChain = (map, object) => {
    for (let proto = object; proto !== null; proto = getPrototypeOf(proto)) {
      const found = map.get(proto);
      if (found !== undefined) return found;
    }
    return undefined;
  };
  internal.platform = (object) => inChain(internal.names, getPrototypeOf(object));

  const classes = new SafeMap();
  const sample = (name, value) => classes.set(natives.classId(value), name);
  sample('Date', new Date(0)); sample('RegExp', /x/); sample('Map', new Map()); sample('Set', new Set());
  sample('WeakMap', new WeakMap()); sample('WeakSet', new WeakSet()); sample('WeakRef', new WeakRef({})); sample('Promise', new p.Promise(() => {}));
  sample('Error', new Error()); sample('ArrayBuffer', new ArrayBuffer(0)); sample('DOMException', internal.dom('', ''));
  sample('Number', Object(0)); sample('String', Object('')); sample('Boolean', Object(true)); sample('BigInt', Object(0n)); sample('Symbol', Object(Symbol()));
  const unbox = { __proto__: null };
  for (const Class of [Number, String, Boolean, BigInt, Symbol]) unbox[Class.name] = p.uncurry(Class.prototype.valueOf);

  const escapes = { __proto__: null, '\n': '\\n', '\t': '\\t', '\r': '\\r', '\b': '\\b', '\f': '\\f', '\v': '\\v', '\\': '\\\\' };
  function quote(text) {
    let mark = "'";
    if (stringIncludes(text, "'")) mark = !stringIncludes(text, '"') ? '"' : !stringIncludes(text, '`') ? '`' : "'";
    let out = mark;
    for (let i = 0; i < text.length; i++) {
      const char = text[i];
      const code = p.stringCharCodeAt(text, i);
      if (escapes[char] !== undefined) out += escapes[char];
      else if (char === mark) out += '\\' + char;
      else if (code < 32 || (code > 126 && code < 160)) out += '\\x' + stringPadStart(numberToString(code, 16), 2, '0');
      else out += char;
    }
    return out + mark;
  }

  function primitive(state, value) {
    if (typeof value === 'string') {
      let more = '';
      if (value.length > CHARS) {
        more = `... ${value.length - CHARS} more characters`;
        value = stringSlice(value, 0, CHARS);
      }
      if (value.length > 16 && value.length > WIDTH - state.indent - 4 && stringIncludes(value, '\n')) {
        const parts = stringSplit(value, '\n');
        const lines = [];
        for (let i = 0; i < parts.length; i++)
          if (i < parts.length - 1) lines[i] = quote(parts[i] + '\n');
          else if (parts[i] !== '') lines[i] = quote(parts[i]);
        return arrayJoin(lines, ` +\n${stringRepeat(' ', state.indent + 2)}`) + more;
      }
      return quote(value) + more;
    }
    if (typeof value === 'number') return is(value, -0) ? '-0' : `${value}`;
    if (typeof value === 'bigint') return `${bigintToString(value)}n`;
    if (typeof value === 'symbol') return symbolToString(value);
    return `${value}`;
  }

  function constructorName(object) {
    for (let proto = object; proto !== null; proto = getPrototypeOf(proto)) {
      const own = getOwnPropertyDescriptor(proto, 'constructor');
      if (own !== undefined && typeof own.value === 'function' && own.value.name !== '') return String(own.value.name);
      const pinned = own !== undefined && proto === p.Promise.prototype;
      if (pinned) return 'Promise';
    }
    return null;
  }

  function prefix(name, fallback, size, tag) {
    const count = size === undefined ? '' : `(${size})`;
    const head = name === null ? `[${fallback}${count}: null prototype] ` : `${name}${count} `;
    return tag !== '' && tag !== name ? `${head}[${tag}] ` : head;
  }

  function key(name) {
    if (typeof name === 'symbol') return symbolToString(name);
    return regexpExec(/^[a-zA-Z_][a-zA-Z_0-9]*$/, name) ? name : quote(name);
  }

  function property(state, object, name, level, bare) {
    const own = getOwnPropertyDescriptor(object, name) ?? { value: object[name], enumerable: true };
    let text;
    if (own.get !== undefined) text = own.set !== undefined ? '[Getter/Setter]' : '[Getter]';
    else if (own.set !== undefined) text = '[Setter]';
    else {
      state.indent += 2;
      text = format(state, own.value, level);
      state.indent -= 2;
    }
    if (bare) return text;
    return `${own.enumerable ? key(name) : `[${typeof name === 'symbol' ? symbolToString(name) : name}]`}: ${text}`;
  }

  function enumerableKeys(object) {
    const keys = ownKeys(object);
    const found = [];
    for (let i = 0; i < keys.length; i++) if (isEnumerable(object, keys[i])) found[found.length] = keys[i];
    return found;
  }

  const isIndex = (name, length) => typeof name === 'string' && regexpExec(/^(0|[1-9][0-9]*)$/, name) !== null && +name < length;

  function arrayItems(state, array, level, length) {
    const items = [];
    let holes = 0;
    const flush = () => {
      if (holes > 0) items[items.length] = `<${holes} empty item${holes > 1 ? 's' : ''}>`;
      holes = 0;
    };
    let index = 0;
    for (; index < length && items.length < ITEMS; index++) {
      if (!hasOwn(array, index)) {
        holes++;
        if (holes > 100000) { index = length; holes = length - items.length; break; }
        continue;
      }
      flush();
      items[items.length] = property(state, array, `${index}`, level, true);
    }
    flush();
    if (length > index) items[items.length] = `... ${length - index} more item${length - index > 1 ? 's' : ''}`;
    return items;
  }

  function entries(state, list, level, pairs) {
    const items = [];
    state.indent += 2;
    const count = list.length / (pairs ? 2 : 1);
    for (let i = 0; i < min(count, ITEMS); i++)
      items[i] = pairs ? `${format(state, list[2 * i], level)} => ${format(state, list[2 * i + 1], level)}` : format(state, list[i], level);
    if (count > ITEMS) items[ITEMS] = `... ${count - ITEMS} more item${count - ITEMS > 1 ? 's' : ''}`;
    state.indent -= 2;
    return items;
  }
  const mapList = (map) => { const list = []; mapForEach(map, (value, name) => { list[list.length] = name; list[list.length] = value; }); return list; };
  const setList = (set) => { const list = []; setForEach(set, (value) => { list[list.length] = value; }); return list; };

  function bufferItems(buffer) {
    const view = new Uint8Array(buffer);
    let hex = '';
    for (let i = 0; i < min(50, typedLength(view)); i++) hex += (i > 0 ? ' ' : '') + stringPadStart(numberToString(view[i], 16), 2, '0');
    const more = typedLength(view) - 50;
    return [`[Uint8Contents]: <${hex}${more > 0 ? ` ... ${more} more byte${more > 1 ? 's' : ''}` : ''}>`, `byteLength: ${bufferLength(buffer)}`];
  }

  function functionBase(value) {
    const text = functionToString(value);
    const name = typeof value.name === 'string' ? value.name : '';
    if (stringStartsWith(text, 'class') && stringEndsWith(text, '}')) {
      const parent = getPrototypeOf(value);
      const parentName = parent !== null && typeof parent.name === 'string' && parent.name !== '' ? ` extends ${parent.name}` : '';
      return `[class ${name === '' ? '(anonymous)' : name}${parentName}]`;
    }
    const kind = constructorName(value) ?? 'Function';
    return `[${kind}${name === '' ? ' (anonymous)' : `: ${name}`}]`;
  }

  function errorBase(error, keys) {
    const text = safely(() => errorToString(error)) ?? 'Error';
    let stack = p.stackOf(error) ?? '';
    stack = regexpExec(/^[\s\S]*?(?=\n*$)/, stack)[0];
    for (let i = keys.length - 1; i >= 0; i--) if (keys[i] === 'name' || keys[i] === 'message' || keys[i] === 'stack') p.arrayRemove(keys, i);
    if (stack === '') return `[${text}]`;
    if (stringStartsWith(stack, '    at ') || stringStartsWith(stack, 'at ')) return `${text}\n${stack}`;
    return stack;
  }
  function safely(read) { try { return read(); } catch { return undefined; } }
  internal.errorText = (error) => errorBase(error, []);

  function group(state, output, extra, value) {
    let total = 0;
    let widest = 0;
    const count = output.length - (extra ? 1 : 0);
    for (let i = 0; i < count; i++) {
      total += output[i].length + 2;
      widest = max(widest, output[i].length);
    }
    const actual = widest + 2;
    if (!(actual * 3 + state.indent < WIDTH && (total / actual > 5 || widest <= 6))) return output;
    const biased = max(actual - 3 - sqrt(actual - total / output.length), 1);
    const columns = min(round(sqrt(2.5 * biased * count) / biased), floor((WIDTH - state.indent) / actual), LEVELS * 4, 15);
    if (columns <= 1) return output;
    return rows(output, count, columns, numeric(value, output.length) ? stringPadStart : stringPadEnd, extra);
  }
  function numeric(value, count) {
    for (let i = 0; i < count; i++) if (typeof value[i] !== 'number' && typeof value[i] !== 'bigint') return false;
    return true;
  }
  function rows(output, count, columns, pad, extra) {
    const widths = [];
    for (let column = 0; column < columns; column++) {
      let width = 0;
      for (let i = column; i < count; i += columns) width = max(width, output[i].length);
      widths[column] = width + 2;
    }
    const lines = [];
    for (let row = 0; row < count; row += columns) {
      const end = min(row + columns, count);
      let line = '';
      for (let i = row; i < end - 1; i++) line += pad(`${output[i]}, `, widths[i - row], ' ');
      line += pad === stringPadStart ? pad(output[end - 1], widths[end - 1 - row] - 2, ' ') : output[end - 1];
      lines[lines.length] = line;
    }
    if (extra) lines[lines.length] = output[count];
    return lines;
  }

  function layout(state, output, base, open, close, level, list) {
    const count = output.length;
    if (list !== undefined && count > 6) output = group(state, output, count > ITEMS, list);
    if (state.deepest - level < LEVELS && count === output.length) {
      let total = output.length + (output.length + state.indent + open.length + base.length + 10);
      for (let i = 0; i < output.length; i++) total += output[i].length;
      if (total <= WIDTH && !stringIncludes(base, '\n')) {
        const line = arrayJoin(output, ', ');
        if (!stringIncludes(line, '\n')) return `${base ? `${base} ` : ''}${open} ${line} ${close}`;
      }
    }
    const indent = `\n${stringRepeat(' ', state.indent)}`;
    return `${base ? `${base} ` : ''}${open}${indent}  ${arrayJoin(output, `,${indent}  `)}${indent}${close}`;
  }

  // What a value is: { base, open, close, items, list, keys }.
  function describe(state, value, level, keys) {
    const name = constructorName(value);
    const tagged = safely(() => value[Symbol.toStringTag]);
    const tag = typeof tagged === 'string' ? tagged : '';
    const look = (open, close, items, extra) => ({ __proto__: null, base: '', open, close, items, keys, list: undefined, ...extra });
    const named = (fallback, size) => prefix(name, fallback, size, tag === fallback ? '' : tag);
    if (isArray(value)) {
      const rest = p.arraySlice(keys);
      const other = [];
      for (let i = 0; i < rest.length; i++) if (!isIndex(rest[i], value.length)) other[other.length] = rest[i];
      const head = name === 'Array' && tag === '' ? '' : named('Array', value.length);
      return look(`${head}[`, ']', () => arrayItems(state, value, level, value.length), { list: value, keys: other });
    }
    if (isView(value) && viewName(value) !== undefined) {
      const length = typedLength(value);
      const other = p.arraySlice(keys, length);
      return look(`${named(viewName(value), length)}[`, ']', () => arrayItems(state, value, level, length), { list: value, keys: other });
    }
    if (typeof value === 'function') return look('{', '}', () => [], { base: functionBase(value) });
    return describeClass(state, value, level, keys, { look, named, name, tag });
  }

  function describeClass(state, value, level, keys, { look, named, name, tag }) {
    switch (classes.get(natives.classId(value))) {
      case 'Date': { const time = dateTime(value); return look('{', '}', () => [], { base: time !== time ? 'Invalid Date' : dateToISO(value) }); }
      case 'RegExp': return look('{', '}', () => [], { base: regexpToString(value) });
      case 'Map': return look(`${named('Map', mapSize(value))}{`, '}', () => entries(state, mapList(value), level, true));
      case 'Set': return look(`${named('Set', setSize(value))}{`, '}', () => entries(state, setList(value), level, false));
      case 'WeakMap': case 'WeakSet': return look(`${named('WeakMap')}{`, '}', () => ['<items unknown>']);
      case 'Promise': return look(`${named('Promise')}{`, '}', () => {
        const state2 = natives.promise(value);
        if (state2[0] === 'pending') return ['<pending>'];
        state.indent += 2;
        const text = format(state, state2[1], level);
        state.indent -= 2;
        return [state2[0] === 'rejected' ? `<rejected> ${text}` : text];
      });
      case 'ArrayBuffer': return look(`${named('ArrayBuffer')}{`, '}', () => bufferItems(value));
      case 'Error': case 'DOMException': {
        const base = errorBase(value, keys);
        const cause = hasOwn(value, 'cause') && !isEnumerable(value, 'cause') ? ['cause'] : [];
        return look('{', '}', () => [], { base, keys: p.arrayConcat(keys, cause) });
      }
      case 'Number': case 'String': case 'Boolean': case 'BigInt': case 'Symbol': {
        const kind = classes.get(natives.classId(value));
        const other = [];
        for (let i = 0; i < keys.length; i++) if (kind !== 'String' || !isIndex(keys[i], value.length)) other[other.length] = keys[i];
        return look('{', '}', () => [], { base: `[${kind}: ${primitive(state, unbox[kind](value))}]`, keys: other });
      }
    }
    const shape = inChain(shapes, value);
    if (shape !== undefined) return describeShape(state, value, level, shape, look, name);
    const head = name === 'Object' && tag === '' ? '' : prefix(name, 'Object', undefined, tag);
    return look(`${head}{`, '}', () => [], { plain: true });
  }

  function describeShape(state, value, level, shape, look, name) {
    const made = typeof shape.look === 'function' ? shape.look(value) : undefined;
    const size = made?.size;
    return look(`${name ?? shape.name}${size === undefined ? '' : `(${size})`} {`, '}', () => {
      const items = [];
      const pairs = made?.pairs ?? [];
      state.indent += 2;
      if (made === undefined)
        for (let i = 0; i < shape.look.length; i++) items[i] = `${shape.look[i]}: ${format(state, safely(() => value[shape.look[i]]), level)}`;
      for (let i = 0; i < pairs.length; i++)
        items[i] = made.map && pairs[i][2] !== true ? `${format(state, pairs[i][0], level)} => ${format(state, pairs[i][1], level)}` : `${pairs[i][0]}: ${format(state, pairs[i][1], level)}`;
      state.indent -= 2;
      return items;
    });
  }

  function format(state, value, level) {
    if (!h.isObject(value)) return primitive(state, value);
    if (natives.isProxy(value)) return '[Proxy]';
    if (state.open.has(value)) {
      if (!state.circular.has(value)) state.circular.set(value, state.circular.size + 1);
      return `[Circular *${state.circular.get(value)}]`;
    }
    const keys = enumerableKeys(value);
    const seen = describe(state, value, level + 1, keys);
    const empty = keys.length === 0 && (seen.plain || isArray(value) && value.length === 0);
    if (level > state.depth && !empty) {
      if (isArray(value)) return '[Array]';
      if (seen.base === '') return `[${constructorName(value) ?? 'Object: null prototype'}]`;
    }
    state.open.add(value);
    state.deepest = level;
    const items = seen.items();
    for (let i = 0; i < seen.keys.length; i++) items[items.length] = property(state, value, seen.keys[i], level + 1, false);
    state.open.delete(value);
    const mark = state.circular.has(value) ? `<ref *${state.circular.get(value)}> ` : '';
    if (items.length === 0) return mark + (seen.base !== '' ? seen.base : `${seen.open}${seen.close}`);
    return mark + layout(state, items, seen.base, seen.open, seen.close, level, seen.list);
  }

  internal.inspect = (value, depth = DEPTH) => format({ __proto__: null, indent: 0, deepest: 0, depth, open: new SafeSet(), circular: new SafeMap() }, value, 0);
});
