"""At the template's build: a JVM that runs what cells are likely to need leaves its loaded classes in an archive."""

from jvm import ARCHIVE, Ended, Jvm

CELLS = (
    'System.out.println("hello");',
    "1 + 1",
    "int f(int n) {\n  return n / 0;\n}\nf(1)",
    'int wrong = "text";',
    'throw new IllegalStateException("x", new RuntimeException("y"));',
    "record Point(int x, int y) {}\nenum Side { LEFT, RIGHT }\ninterface Shape { double area(); }",
    "class Circle implements Shape {\n  public double area() { return Math.PI; }\n}\nnew Circle().area()",
    "var names = List.of(3, 1, 2).stream().sorted().map(n -> n * 2).collect(Collectors.toList());\nnames",
    'var map = new HashMap<String, Integer>();\nfor (int i = 0; i < 3; i++) {\n  map.put("k" + i, i);\n}\nmap',
    'String.format("%.2f %s", 1.5, new int[] {1, 2}.length)',
    'Files.writeString(Path.of("/tmp/rehearsal"), "text"); Files.readAllLines(Path.of("/tmp/rehearsal"))',
    'new ProcessBuilder("true").inheritIO().start().waitFor()',
    'atoll.jshell.Environment.set("REHEARSAL", "1"); atoll.jshell.Environment.set("REHEARSAL", null);',
    'System.getProperty("user.dir") + System.getenv("HOME")',
)

jvm = Jvm("-XX:ArchiveClassesAtExit=" + ARCHIVE)
jvm.wait(b"Y")
for cell in CELLS:
    jvm.execute(cell.encode())
    jvm.wait(b"D")
jvm.execute(b"System.exit(0)")
try:
    jvm.wait(b"D")
except Ended:
    raise SystemExit(jvm.process.wait()) from None
