// Prisma reads its configuration from a file of this name.
export default { schema: "schema.prisma" };
