/* Memory that a fork shares with its zygote, and comes to share again.
 *
 * A fork copies each page that it writes to, and reading an object in Python writes to it: its count of references goes
 * up and down again. Afterwards the page says what the zygote's says and is still a copy. The kernel cannot take such a
 * copy back as long as the zygote's memory is anonymous. So the zygote moves its memory into a file, once:
 *
 *     atoll_share(regions, count, fd)     in the zygote: its writable private regions become private mappings of fd
 *     atoll_open(fd, size)                ... and the file is mapped once more, to compare with
 *     atoll_give_back(pagemap)            in a fork: pages that say what the file says are dropped, and so shared again
 *
 * Only for a process with one thread, and with its signals held back: nobody may write between the comparison and the
 * drop, or between the copy and the move. No library is needed, so one object serves every C library:
 *
 *     gcc -O2 -Wall -Wextra -shared -nostdlib -fPIC -fno-stack-protector -fno-builtin \
 *         -fno-tree-loop-distribute-patterns -o pages.so pages.c
 */

typedef unsigned long word;

enum { PAGE = 4096, WORDS = PAGE / sizeof(word), AT_ONCE = 512, TEXT = 4096, THREAD = 4 * PAGE };
enum { PROT_READ = 1, PROT_WRITE = 2, MAP_PRIVATE = 2, MAP_FIXED = 16, MADV_NORMAL = 0, MADV_DONTNEED = 4 };
enum { AT_FDCWD = -100, O_CLOEXEC = 02000000, SIG_SETMASK = 2 };

#define PRESENT (1ul << 63)
#define OF_FILE (1ul << 61)
#define NAME "/memfd:atoll-zygote"

#if defined(__x86_64__)
enum { READ = 0, CLOSE = 3, MMAP = 9, SIGPROCMASK = 14, PREAD = 17, PWRITE = 18, MADVISE = 28, OPENAT = 257 };

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static word thread_pointer(void) {
    word pointer;
    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
}
#elif defined(__aarch64__)
enum { READ = 63, CLOSE = 57, MMAP = 222, SIGPROCMASK = 135, PREAD = 67, PWRITE = 68, MADVISE = 233, OPENAT = 56 };

static long call(long number, long a, long b, long c, long d, long e, long f) {
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
}

static word thread_pointer(void) {
    word pointer;
    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
    return pointer;
}
#else
#error "add this machine's system calls"
#endif

struct region {
    word start, end;
};

/* A handler of ours would write to memory that is just being compared or moved. */
static word hold_signals(void) {
    word all = ~0ul, before = 0;
    call(SIGPROCMASK, SIG_SETMASK, (long)&all, (long)&before, sizeof(word), 0, 0);
    return before;
}

static void let_signals(word before) {
    call(SIGPROCMASK, SIG_SETMASK, (long)&before, 0, sizeof(word), 0, 0);
}

static word pristine, pristine_size;

static int holds(const struct region *region, word address) {
    return region->start <= address && address < region->end;
}

static int is_zero(const word *page) {
    for (int i = 0; i < WORDS; i++)
        if (page[i])
            return 0;
    return 1;
}

static int is_same(const word *page, const word *other) {
    for (int i = 0; i < WORDS; i++)
        if (page[i] != other[i])
            return 0;
    return 1;
}

/* Whether the whole region is in the file now. Pages of zeros stay holes. */
static int copy(const struct region *region, int fd, word offset) {
    for (word at = region->start; at < region->end; at += PAGE)
        if (!is_zero((const word *)at)
            && call(PWRITE, fd, (long)at, PAGE, (long)(offset + at - region->start), 0, 0) != PAGE)
            return 0;
    return 1;
}

static word move(word start, word end, int fd, word offset) {
    struct region region = {start, end};
    if (start >= end || !copy(&region, fd, offset))
        return 0;
    long at = call(MMAP, (long)start, (long)(end - start), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, (long)offset);
    return at == (long)start ? end - start : 0;
}

/* What is in use right now stays as it is: this library's own memory, and what is around the thread pointer, where the
 * kernel writes on its own. And since somebody looked where memory lies, some of it may have been given back. */
static int can_move(word page, word thread) {
    if (page == ((word)&pristine & -(word)PAGE) || (page < thread + THREAD && page + THREAD > thread))
        return 0;
    return call(MADVISE, (long)page, PAGE, MADV_NORMAL, 0, 0, 0) == 0;
}

static word move_region(const struct region *region, int fd, word offset) {
    word moved = 0, begin = region->start, thread = thread_pointer();
    for (word at = region->start; at < region->end; at += PAGE)
        if (!can_move(at, thread)) {
            moved += move(begin, at, fd, offset + begin - region->start);
            begin = at + PAGE;
        }
    return moved + move(begin, region->end, fd, offset + begin - region->start);
}

/* How many bytes are shared from here on. The stack must not be among the regions. */
__attribute__((visibility("default"))) long atoll_share(const struct region *regions, long count, int fd) {
    word offset = 0, shared = 0, signals = hold_signals();
    for (long i = 0; i < count; i++) {
        if (!holds(&regions[i], (word)__builtin_frame_address(0)))
            shared += move_region(&regions[i], fd, offset);
        offset += regions[i].end - regions[i].start;
    }
    let_signals(signals);
    return (long)shared;
}

__attribute__((visibility("default"))) long atoll_open(int fd, word size) {
    long address = call(MMAP, 0, (long)size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address < 0 && address > -PAGE)
        return address;
    pristine = (word)address;
    pristine_size = size;
    return 0;
}

/* Pages of one mapping that are copies and say what the file says. */
static long give_back_mapping(int pagemap, word start, word end, word offset) {
    word entries[AT_ONCE];
    long given = 0;
    for (word at = start; at < end; at += AT_ONCE * PAGE) {
        word pages = (end - at) / PAGE < AT_ONCE ? (end - at) / PAGE : AT_ONCE;
        long got = call(PREAD, pagemap, (long)entries, (long)(pages * sizeof(word)), (long)(at / PAGE * sizeof(word)), 0, 0);
        if (got != (long)(pages * sizeof(word)))
            return given;
        for (word i = 0; i < pages; i++) {
            word page = at + i * PAGE;
            if ((entries[i] & (PRESENT | OF_FILE)) == PRESENT
                && is_same((const word *)page, (const word *)(pristine + offset + page - start))
                && call(MADVISE, (long)page, PAGE, MADV_DONTNEED, 0, 0, 0) == 0)
                given++;
        }
    }
    return given;
}

static const char *hexadecimal(const char *text, word *value) {
    for (*value = 0;; text++) {
        if (*text >= '0' && *text <= '9')
            *value = *value * 16 + (word)(*text - '0');
        else if (*text >= 'a' && *text <= 'f')
            *value = *value * 16 + (word)(*text - 'a' + 10);
        else
            return text;
    }
}

static int begins(const char *text, const char *with) {
    while (*with)
        if (*text++ != *with++)
            return 0;
    return 1;
}

/* A line of maps: `start-end perms offset device inode name`. What a program has mapped at the same place since is not
 * the file's, and so not looked at. */
static long give_back_line(int pagemap, const char *line) {
    word start, end, offset;
    line = hexadecimal(line, &start);
    if (*line++ != '-')
        return 0;
    line = hexadecimal(line, &end);
    if (!begins(line, " rw-p "))
        return 0;
    line = hexadecimal(line + 6, &offset);
    while (*line && *line != '/')
        line++;
    if (!begins(line, NAME) || offset > pristine_size || end - start > pristine_size - offset)
        return 0;
    return give_back_mapping(pagemap, start, end, offset);
}

static long give_back_all(int pagemap, int maps) {
    char text[TEXT + 1];
    long given = 0, kept = 0, got;
    while ((got = call(READ, maps, (long)(text + kept), TEXT - kept, 0, 0, 0)) > 0) {
        long size = kept + got, begin = 0;
        for (long i = kept; i < size; i++)
            if (text[i] == '\n') {
                text[i] = 0;
                given += give_back_line(pagemap, text + begin);
                begin = i + 1;
            }
        if (begin == 0 && size == TEXT)
            begin = size; /* longer than any line of ours: its rest begins like no line */
        kept = size - begin;
        for (long i = 0; i < kept; i++)
            text[i] = text[begin + i];
    }
    return given;
}

/* How many pages were given back, or a negative number. `pagemap`: opened while that was still allowed; -1: now. */
__attribute__((visibility("default"))) long atoll_give_back(int pagemap) {
    if (!pristine)
        return 0;
    int own = pagemap < 0 ? (int)call(OPENAT, AT_FDCWD, (long)"/proc/self/pagemap", O_CLOEXEC, 0, 0, 0) : pagemap;
    if (own < 0)
        return own;
    long maps = call(OPENAT, AT_FDCWD, (long)"/proc/self/maps", O_CLOEXEC, 0, 0, 0);
    long given = maps;
    if (maps >= 0) {
        word signals = hold_signals();
        given = give_back_all(own, (int)maps);
        let_signals(signals);
        call(CLOSE, maps, 0, 0, 0, 0, 0);
        call(MADVISE, (long)pristine, (long)pristine_size, MADV_DONTNEED, 0, 0, 0);
    }
    if (pagemap < 0)
        call(CLOSE, own, 0, 0, 0, 0, 0);
    return given;
}
