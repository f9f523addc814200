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
