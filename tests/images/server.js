// Answers questions about the container that it runs in, for the scenarios of images.
'use strict';

const { execFile } = require('node:child_process');
const http = require('node:http');

const LARGEST_ANSWER = 64 << 20;

const commands = {
  list: ['sh', '/srv/list'],
  setuid: ['/srv/modes/setuid'],
  setgid: ['/srv/modes/setgid'],
  capable: ['/srv/modes/capable'],
  attributes: ['getfattr', '--only-values', '-n', 'user.berth', '/srv/contents/attributes'],
  capabilities: ['getcap', '/srv/modes/capable'],
};

function self() {
  return {
    uid: process.getuid(), gid: process.getgid(), groups: process.getgroups(), directory: process.cwd(),
    home: process.env.HOME, greeting: process.env.GREETING, version: process.version,
  };
}

http.createServer((request, response) => {
  const name = request.url.split('/').pop();
  if (name === 'self') return response.end(JSON.stringify(self()));
  if (!Object.hasOwn(commands, name)) return response.writeHead(404).end('no such question\n');
  const [program, ...words] = commands[name];
  execFile(program, words, { cwd: '/', maxBuffer: LARGEST_ANSWER, encoding: 'buffer' }, (error, stdout, stderr) => {
    response.writeHead(error ? 500 : 200).end(error ? stderr : stdout);
  });
}).listen(8080, () => console.log('listening'));
