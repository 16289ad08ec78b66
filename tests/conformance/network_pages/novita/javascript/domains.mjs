import { ALL_TRAFFIC, Sandbox } from 'novita-sandbox';

const sandbox = await Sandbox.create({
  network: { allowOut: ['google.com', 'api.example.com'], denyOut: [ALL_TRAFFIC] },
});
