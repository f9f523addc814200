// As much of testharness.js as the driver asks for, and tests of each kind: so that the driver is tried where nothing was brought.
(function () {
  const tests = [];
  let tell;
  let complete;
  const end = (test, status, message = '') => {
    if (test.status !== undefined) return;
    test.status = status;
    tell({ name: test.name, status, message });
    if (tests.every((one) => one.status !== undefined)) complete(tests, { status: 0, ERROR: 1 });
  };
  self.add_result_callback = (callback) => { tell = callback; };
  self.add_completion_callback = (callback) => { complete = callback; };
  self.timeout = () => { for (const test of tests) end(test, 2); };
  self.promise_test = (body, name) => {
    const test = { name, status: undefined };
    tests.push(test);
    Promise.resolve().then(body).then(() => end(test, 0), (error) => end(test, 1, error.message));
  };
}());
---
promise_test(async () => {
  const response = await fetch('../wpt/sample.js');
  const text = await response.text();
  if (response.status !== 200 || !text.includes('it fetches what is beside it')) throw new Error('another file');
}, 'it fetches what is beside it');
promise_test(() => fetch('../wpt/none.py'), 'there is no server');
promise_test(() => new Promise((resolve) => setTimeout(resolve, 30000)), 'time passes');
promise_test(() => new Promise(() => {}), 'it waits\nfor ever');
promise_test(async () => { if (new Request('a?b').url !== `${location.origin}/wpt/a?b`) throw new Error('elsewhere'); }, 'requests know where they are');
var shared = 1;
---
promise_test(async () => { if (shared !== 1 || this !== self) throw new Error('a module'); }, 'scripts share what they declare');
