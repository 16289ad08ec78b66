package atoll.jshell;

import java.lang.reflect.Field;
import java.lang.reflect.Method;

/** Environment variables as cells see them; Java itself knows no way to set one. */
public final class Environment {
    private Environment() {}

    /**
     * System.getenv, System.getProperty and ProcessBuilder.environment show it from now on; null takes it away. A child
     * whose environment nobody looked at gets the one that this process was started with.
     */
    public static void set(String name, String value) {
        if (value == null) {
            System.clearProperty(name);
        } else {
            System.setProperty(name, value);
        }
        try {
            Field map = Class.forName("java.util.Collections$UnmodifiableMap").getDeclaredField("m");
            map.setAccessible(true);
            Object variables = map.get(System.getenv());
            Method act = value == null
                    ? variables.getClass().getMethod("remove", Object.class)
                    : variables.getClass().getMethod("put", String.class, String.class);
            act.setAccessible(true);
            act.invoke(variables, value == null ? new Object[] {name} : new Object[] {name, value});
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException("the environment cannot be changed in this Java", error);
        }
    }
}
