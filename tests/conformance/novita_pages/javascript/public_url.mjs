import { Sandbox } from 'novita-sandbox';

const sandbox = await Sandbox.create();
console.log(`https://${sandbox.getHost(3000)}`);
