// node hook.mjs ADDRESS: a web server there that prints its port, and then each request, as a line of JSON.

import { createServer } from 'node:http';

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

const server = createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray()).toString();
  response.end();
  const { method, url, headers } = request;
  say({ method, url, headers, body });
});
server.listen(0, process.argv[2], () => say(server.address().port));
