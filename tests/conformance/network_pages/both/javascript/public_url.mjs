import { Sandbox } from 'e2b';

const sandbox = await Sandbox.create();
console.log(`https://${sandbox.getHost(3000)}`);
