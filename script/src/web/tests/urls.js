test('normal form', () => {
  for (const [text, href] of [['http://EXAMPLE.com:80/a/../b', 'http://example.com/b'], ['HTTP://u:p@h:8080/x y?q=é#f', 'http://u:p@h:8080/x%20y?q=%C3%A9#f'], ['http://münchen.de/ä', 'http://xn--mnchen-3ya.de/%C3%A4'],
    ['http://1.2/', 'http://1.0.0.2/'], ['http://[::0001]/', 'http://[::1]/'], ['file:///C:/../x', 'file:///C:/x'], ['data:text/plain,a b', 'data:text/plain,a b'], ['  http://a\n/b\t ', 'http://a/b'], ['http://a\\b', 'http://a/b']])
    equal(new URL(text).href, href);
  for (const [text, base, href] of [['/x', 'http://a/b/c', 'http://a/x'], ['../x?y', 'http://a/b/c/d', 'http://a/b/x?y'], ['//z', 'https://a/', 'https://z/'], ['?q', 'http://a/b?c#d', 'http://a/b?q'], ['', 'http://a/b#c', 'http://a/b']])
    equal(new URL(text, base).href, href);
});
test('what is no URL', () => {
  for (const args of [['/x'], ['/x', 'nope'], ['http://'], ['http://a b/'], ['http://a:99999/'], ['http://[::g]/'], ['']]) throws(() => new URL(...args), 'TypeError: Invalid URL string.');
  throws(() => new URL(), "TypeError: Failed to construct 'URL': constructor parameter 1 is not of type 'USVString'.");
  throws(() => { new URL('http://a/').href = 'nope'; }, "TypeError: Failed to set the 'href' property on 'URL': the provided value is not of type 'valid URL string'.");
  equal([URL.canParse('x'), URL.canParse('/x', 'http://a'), URL.parse('x'), URL.parse('http://a').href], [false, true, null, 'http://a/']);
});
test('parts and their setters', () => {
  const url = new URL('http://u:p@host:81/p/a?q=1#f');
  equal([url.origin, url.protocol, url.username, url.password, url.host, url.hostname, url.port, url.pathname, url.search, url.hash, `${url}`, JSON.stringify(url)],
    ['http://host:81', 'http:', 'u', 'p', 'host:81', 'host', '81', '/p/a', '?q=1', '#f', 'http://u:p@host:81/p/a?q=1#f', '"http://u:p@host:81/p/a?q=1#f"']);
  url.protocol = 'https';
  url.port = '443';
  url.hostname = 'EX.org';
  url.pathname = 'x y';
  url.hash = '';
  url.username = '';
  url.password = '';
  equal(url.href, 'https://ex.org/x%20y?q=1');
  url.port = 'none';
  url.host = '';
  url.protocol = 'mailto';
  equal(url.href, 'https://ex.org/x%20y?q=1');
  equal(new URL('mailto:a@b').origin, 'null');
});
test('searchParams are live both ways', () => {
  const url = new URL('http://a/?a=1&b=2#h');
  const params = url.searchParams;
  ok(params === url.searchParams);
  params.append('c', 'x y');
  equal(url.href, 'http://a/?a=1&b=2&c=x+y#h');
  params.delete('a');
  params.delete('b', 'other');
  equal(url.search, '?b=2&c=x+y');
  url.search = '?z=9';
  equal([...params], [['z', '9']]);
  url.href = 'http://b/?q';
  equal([...params], [['q', '']]);
  params.delete('q');
  equal(url.href, 'http://b/');
});
test('URLSearchParams', () => {
  const params = new URLSearchParams([['a', '1'], ['b', '2'], ['a', '3']]);
  params.append('c', ' ');
  params.sort();
  equal([params.toString(), params.getAll('a'), params.has('a', '3'), params.has('a', '4'), params.size, params.get('none')], ['a=1&a=3&b=2&c=+', ['1', '3'], true, false, 4, null]);
  params.set('a', 'only');
  params.set('new', '&=?');
  equal(`${params}`, 'a=only&b=2&c=+&new=%26%3D%3F');
  equal([...new URLSearchParams('?a=%41+b&&=x&c')], [['a', 'A b'], ['', 'x'], ['c', '']]);
  equal(`${new URLSearchParams({ a: 1, b: '\ud800' })}`, 'a=1&b=%EF%BF%BD');
  equal([...new URLSearchParams(new URLSearchParams('a=1')).keys(), ...new URLSearchParams('a=1').values()], ['a', '1']);
  const seen = [];
  params.forEach(function (value, name, all) { seen.push(value, name, all === params, this.x); }, { x: 1 });
  equal(seen.slice(0, 4), ['only', 'a', true, 1]);
  throws(() => new URLSearchParams([['a']]), 'TypeError: Invalid URL search params sequence.');
  throws(() => new URLSearchParams([1]), "TypeError: Incorrect type: the provided value is not of type 'Sequence'.");
  throws(() => new URLSearchParams().get(), "TypeError: Failed to execute 'get' on 'URLSearchParams': parameter 1 is not of type 'USVString'.");
  throws(() => new URLSearchParams().append('a'), "TypeError: Failed to execute 'append' on 'URLSearchParams': parameter 2 is not of type 'USVString'.");
  const live = new URLSearchParams('a=1&b=2');
  const names = [];
  for (const [name] of live) { names.push(name); if (name === 'a') live.append('c', '3'); }
  equal(names, ['a', 'b', 'c']);
});
test('how they look', () => {
  console.log(new URL('http://a/b?c=d#e'), new URLSearchParams('a=b&c=d'));
  equal(host.lines[0], "log: URL {\n  origin: 'http://a',\n  href: 'http://a/b?c=d#e',\n  protocol: 'http:',\n  username: '',\n  password: '',\n  host: 'a',\n  hostname: 'a',\n  port: '',\n  pathname: '/b',\n  search: '?c=d',\n  hash: '#e',\n  searchParams: URLSearchParams(1) { 'c' => 'd' }\n} URLSearchParams(2) { 'a' => 'b', 'c' => 'd' }");
});
const hrefs = (cases) => equal(cases.map(([text, base]) => (URL.canParse(text, base) ? new URL(text, base).href : null)), cases.map((one) => one[2]));
test('files: hosts, drives, empty segments', () => {
  hrefs([
    ['file:///z|/a', undefined, 'file:///z:/a'],
    ['file:\\\\//', undefined, 'file:////'],
    ['file://LOCALHOST//etc', undefined, 'file:////etc'],
    ['file://box/D:/x', undefined, 'file://box/D:/x'],
    ['d|/x', 'file://box/y/z', 'file://box/d:/x'],
    ['/x', 'file://box/D:/y', 'file://box/D:/x'],
    ['//other/x', 'file://box/D:/y', 'file://other/x'],
    ['../../..', 'file:///D:/a/b/c', 'file:///D:/'],
    ['file:..//x', undefined, 'file:////x'],
    ['file:x?y#z', 'file:///a/b?c#d', 'file:///a/x?y#z'],
    ['#z', 'file:///a/b?c#d', 'file:///a/b?c#z'],
  ]);
});
test('hosts behind any number of slashes', () => {
  hrefs([
    ['////box/x/../y', 'http://other/', 'http://box/y'],
    ['/\\/box/x', 'https://other/', 'https://box/x'],
    ['http:\\\\box', undefined, 'http://box/'],
    ['http:x', 'http://other/a/b', 'http://other/a/x'],
    ['https:x', 'http://other/a/b', 'https://x/'],
    ['//box', 'some://other/a', 'some://box'],
    ['///x', 'some://other/a', 'some:///x'],
    ['http://', undefined, null],
    ['http://@/x', undefined, null],
    ['http://a:b@c:65536/', undefined, null],
    ['http://a@b:c@d:080/', undefined, 'http://a%40b:c@d/'],
    ['http://xn--xn--a--gua.example/', undefined, null],
  ]);
});
test('paths without hierarchy, and with nothing before them', () => {
  hrefs([
    ['some:text  ?q', undefined, 'some:text %20?q'],
    ['some:text \t #h', undefined, 'some:text %20#h'],
    ['some:text  ', undefined, 'some:text'],
    ['#h', 'some:text?q', 'some:text?q#h'],
    ['x', 'some:text', null],
    ['some:/.//x', undefined, 'some:/.//x'],
    ['some:/a/../..//x', undefined, 'some:/.//x'],
    ['http://a/b^c|d`e', undefined, 'http://a/b%5Ec|d%60e'],
    ['http://a/%2E/b/.%2e/c/%2e', undefined, 'http://a/c/'],
    ["http://a/?'b", undefined, 'http://a/?%27b'],
    ["some://a/?'b", undefined, "some://a/?'b"],
  ]);
});
test('setting parts', () => {
  const after = (href, part, value) => { const url = new URL(href); url[part] = value; return url.href; };
  equal([after('some:/.//x', 'hostname', 'h'), after('some:/.//x', 'pathname', 'y'), after('some:/x', 'pathname', '//y'), after('some://h/x', 'pathname', ''), after('some:text', 'pathname', 'y')],
    ['some://h//x', 'some:/y', 'some:/.//y', 'some://h', 'some:text']);
  equal([after('http://h:81/', 'port', '\n'), after('http://h:81/', 'port', ''), after('http://h:81/', 'port', '82x'), after('http://h:81/', 'port', 'x'), after('http://h:81/', 'port', '80'), after('http://h/', 'port', '65536')],
    ['http://h:81/', 'http://h/', 'http://h:82/', 'http://h:81/', 'http://h/', 'http://h/']);
  equal([after('http://h:81/', 'host', 'i:82'), after('http://h:81/', 'host', 'i'), after('http://h:81/', 'hostname', 'i:82'), after('http://h/', 'host', ''), after('some://u@h/', 'host', ''), after('some://h/', 'host', ''), after('file://h/', 'host', 'localhost')],
    ['http://i:82/', 'http://i:81/', 'http://h:81/', 'http://h/', 'some://u@h/', 'some:///', 'file:///']);
  equal([after('http://h/', 'protocol', 'wss:x'), after('http://h/', 'protocol', 'some'), after('https://h:80/', 'protocol', 'http'), after('http://u@h/', 'protocol', 'file'), after('file:///', 'protocol', 'http')],
    ['wss://h/', 'http://h/', 'http://h/', 'http://u@h/', 'file:///']);
  equal([after('some:text ?q', 'search', ''), after('some:text ?q#h', 'hash', ''), after('http://h/?q', 'search', '?\ta#b'), after('http://h/', 'username', 'a@b'), after('file://h/', 'username', 'a')],
    ['some:text%20', 'some:text%20?q', 'http://h/?a%23b', 'http://a%40b@h/', 'file://h/']);
});
test('origins', () => {
  equal(['blob:http://a:81/x', 'blob:ftp://a/x', 'blob:blob:http://a/x', 'blob:x', 'ws://a:80/', 'file://a/', 'some://a/'].map((href) => new URL(href).origin), ['http://a:81', 'null', 'null', 'null', 'ws://a', 'null', 'null']);
});
test('keys of a record that come to the same', () => {
  equal([...new URLSearchParams({ 'a\ud800': '1', b: '2', 'a\ufffd': '3' })], [['a\ufffd', '3'], ['b', '2']]);
  equal([...new URLSearchParams([['a', '1'], ['a', '2']])].length, 2);
});
test('iterators have what others have', () => {
  for (const iterator of [new URLSearchParams('a=1').keys(), new Headers().entries()]) {
    const found = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(iterator), 'next');
    equal([found.enumerable, found.writable, found.configurable], [true, true, true]);
  }
});
