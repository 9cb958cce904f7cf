# Client → lineal: more prepared statements than a session may keep, each made by a Parse and dropped by SQL.
# Then one that SQL prepares and executes.
said = []
for number in range(4200):
    name = f"s{number}"
    raw.sendall(parse(name, "SELECT 1") + SYNC + query(f"DEALLOCATE {name}"))
    said = replies(2)
print(*said)
raw.sendall(query("PREPARE marked AS SELECT 2") + query("EXECUTE marked"))
print(*replies(2))
