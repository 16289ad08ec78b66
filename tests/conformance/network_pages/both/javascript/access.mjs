import { Sandbox } from 'e2b';

const withInternet = await Sandbox.create({ allowInternetAccess: true });
const withoutInternet = await Sandbox.create({ allowInternetAccess: false });
