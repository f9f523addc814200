// Queuing strategies, and the queues of streams.
(function (internal) {
  'use strict';
  const { p, h, shape } = internal;
  const { RangeError, TypeError } = p;
  const { finish, illegal, wrongInit, isObject } = h;

  function strategy(name, size) {
    let markOf;
    const Class = class {
      #mark;
      static { markOf = (self) => { if (typeof self !== 'object' || self === null || !(#mark in self)) throw illegal(); return self.#mark; }; }
      constructor(init) {
        if (!isObject(init) || init.highWaterMark === undefined) throw wrongInit(name, 1, 'QueuingStrategyInit');
        this.#mark = +init.highWaterMark;
      }
      get highWaterMark() { return markOf(this); }
      get size() { markOf(this); return size; }
    };
    p.defineProperty(Class, 'name', { value: name, configurable: true });
    finish(Class, name);
    shape(Class, name, ['highWaterMark', 'size']);
  }
  // Methods of objects, as those cannot be constructed.
  strategy('CountQueuingStrategy', { size() { return 1; } }.size);
  strategy('ByteLengthQueuingStrategy', { size(chunk) { return chunk?.byteLength; } }.size);

  // A strategy as { mark, size }: the mark that there is otherwise is `fallback`, and without a size there is none.
  internal.strategyOf = (given, fallback) => {
    const wanted = given?.highWaterMark;
    const mark = wanted === undefined ? fallback : +wanted;
    const size = given?.size;
    if (size !== undefined && typeof size !== 'function') throw new TypeError("Incorrect type for the 'size' field on 'QueuingStrategy': the provided value is not of type 'function'.");
    if (!(mark >= 0)) throw new RangeError('The highWaterMark of a queuing strategy must be a number that is not negative.');
    return { mark, size: size === undefined ? undefined : (chunk) => size(chunk) };
  };

  // A list that is long at its end and short at its front.
  internal.newQueue = () => ({ items: [], head: 0, total: 0 });
  internal.queueLength = (queue) => queue.items.length - queue.head;
  internal.put = (queue, item, size) => { queue.items[queue.items.length] = item; queue.total += size; };
  internal.front = (queue) => queue.items[queue.head];
  internal.take = (queue, size) => {
    const item = queue.items[queue.head];
    queue.items[queue.head++] = undefined;
    queue.total -= size;
    if (queue.total < 0) queue.total = 0;
    if (queue.head === queue.items.length) { queue.items = []; queue.head = 0; } else if (queue.head > 1024) { queue.items = p.arraySlice(queue.items, queue.head); queue.head = 0; }
    return item;
  };
  internal.clear = (queue) => { queue.items = []; queue.head = 0; queue.total = 0; };

  // A method of a source, sink or transformer, as an algorithm that gives a promise.
  internal.method = (object, name, type) => {
    const method = object[name];
    if (method === undefined) return undefined;
    if (typeof method !== 'function') throw new TypeError(`Incorrect type for the '${name}' field on '${type}': the provided value is not of type 'function'.`);
    return (...args) => { try { return h.resolved(p.apply(method, object, args)); } catch (error) { return h.rejected(error); } };
  };
});
