import { ALL_TRAFFIC, Sandbox } from 'novita-sandbox';

// Every name below it, and not the domain itself.
const sandbox = await Sandbox.create({ network: { allowOut: ['*.mydomain.com'], denyOut: [ALL_TRAFFIC] } });
