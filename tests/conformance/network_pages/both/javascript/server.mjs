import { Sandbox } from 'e2b';

const sandbox = await Sandbox.create();
const server = await sandbox.commands.run('python -m http.server 3000', { background: true });
const url = `https://${sandbox.getHost(3000)}`;

// From here, and from the sandbox itself.
console.log(await (await fetch(url)).text());
console.log((await sandbox.commands.run(`curl ${url}`)).stdout);

await server.kill();
