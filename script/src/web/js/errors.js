// DOMException, and whose turn it is: outside of an event nothing may reach out, wait or be random.
(function (internal) {
  'use strict';
  const { Error } = internal.p;
  const DOMException = globalThis.DOMException;
  internal.DOMException = DOMException;
  internal.dom = (name, message) => new DOMException(message, name);

  let current = null;
  internal.event = () => current;
  internal.dispatch.setEvent = (event) => { current = event; };
  internal.inEvent = () => {
    if (current === null)
      throw new Error('Disallowed operation called within global scope. Asynchronous I/O (ex: fetch() or connect()), setting a timeout, and generating random values are not allowed within global scope. To fix this error, perform this operation within a handler.');
  };
});
