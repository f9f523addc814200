export default {
  fetch(request) {
    const [client, server] = Object.values(new WebSocketPair());
    server.accept();
    server.addEventListener('message', ({ data }) => { server.send(`${typeof data === 'string' ? data : data.constructor.name}`); if (data === 'end') server.close(4000, 'end'); });
    server.addEventListener('close', ({ code, reason }) => { console.log('closed', code, reason); server.close(code, 'answered'); });
    return new Response(null, { status: 101, webSocket: client });
  },
};
