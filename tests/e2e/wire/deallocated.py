# Client → lineal: more prepared statements than a session may keep, each made by a Parse and dropped by SQL.
said = []
for number in range(4200):
    name = f"s{number}"
    raw.sendall(parse(name, "SELECT 1") + SYNC + query(f"DEALLOCATE {name}"))
    said = replies(2)
print(*said)
