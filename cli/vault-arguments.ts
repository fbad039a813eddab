/** Options that the commands about secrets have in common. */
export const NAME = {
  type: "string",
  demandOption: true,
  describe: "Its name: lower case letters, digits, - and _",
} as const;

export const WORKSPACE = {
  type: "string",
  default: "default",
  requiresArg: true,
  describe: "The workspace it is in",
} as const;

export const KEK_KINDS = ["passphrase", "file", "systemd-creds", "pkcs11"] as const;
export const MAX_PASSPHRASE_BYTES = 1_024;
