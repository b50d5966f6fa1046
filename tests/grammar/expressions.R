# The tables of texts. A line is one expression; `whole` holds those that have line breaks.

lines_of <- function(block) {
  lines <- strsplit(block, "\n", fixed = TRUE)[[1]]
  lines[nzchar(trimws(lines))]
}

# Every pair of binary operators, and every one beside each unary operator.
operator_pairs <- function() {
  binary <- c("^", "%%", "%/%", "%in%", "*", "/", "+", "-", "==", "<", ">=", "&", "|")
  compares <- c("==", "<", ">=")
  pairs <- expand.grid(second = binary, first = binary, stringsAsFactors = FALSE)
  pairs <- pairs[!(pairs$first %in% compares & pairs$second %in% compares), ]
  c(
    sprintf("num %s cls %s 2", pairs$first, pairs$second),
    sprintf("-num %s cls", binary), sprintf("!num %s cls", binary),
    sprintf("num %s -cls", binary), sprintf("num %s !cls", binary)
  )
}

sections <- list(
precedence = r"---(
-x^2
(-x)^2
-x^2 * 2
2^-1
2^-num
2^-num^2
-2^2
-2^0.5
num^2^0.5
num ** 2
2 ** num ** 2
-num %% 3
-num %/% 3
-(num %% 3)
(-num) %% 3
2*num %% 3
2 * num %% 3 * 2
num %/% 2 * 2
num * num %/% 2
num / num %% 3
x %% 1
x %% -1
x %/% 1
-x %/% 2
x %% 0.7
x %/% 0.7
-7 %% 3
-7 %/% 3
7 %% -3
7 %/% -3
5.5 %% 2
-5.5 %/% 2
num %% 0
num %/% 0
x %% Inf
num - 1 - 1
num - (1 - 1)
num / 2 / 2
num / (2 / 2)
num / 2 * 2
num - -1
num - - -1
num + -x
num * -x
+num
- - num
-+-num
!flag
!!flag
!flag & x > 0
!(flag & x > 0)
!flag | x > 0
!x > 0
!x > 0 & flag
!num == 3
!num + 1 > 2
x > 5 & flag
x > 0 & flag
x > 0 & flag | z > 5
flag | x > 0 & z > 5
(flag | x > 0) & z > 5
x > 0 & z < 5 & num != 3
(x > 0) == flag
(x > 0) == (z > 5)
x > z - 5
x + z > 5
x + z >= 2 * num
x > -1
x < -1 | x > 1
x<-1.5 + 1
x * z > num^2
num == 2 | num == 4
num != 3
num <= 3
num %in% c(1, 3)
!num %in% c(1, 3)
num %in% 1:3
num %in% -1:2
num + 1 %in% 2
num %in% cls + 1
cls * num %in% 3
k %in% c("lo", "hi")
!(k %in% c("lo", "hi"))
f == "a" & k == "lo" | f == "b"
sum(-1:3)
sum(-(1:3))
sum(1:3 * 2)
sum(1:(3 * 2))
sum(1:3^2)
sum((1:3)^2)
sum(1:3 + 1)
sum(2 * 1:3)
sum(-1:2 %% 2)
sum(10:1 %% 3)
{x + z}
{x^2}
{x; z}
{{num}}
{x > 0} & flag
(x)
((x + z)) * (2)
(x > 0)
x  +  z
x+z
x	+	z
)---",
logicals = r"---(
TRUE + TRUE
flag + flag
flag + TRUE
flag + (x > 0)
(x > 0) + (z > 5)
(x > 0) + (z > 5) + flag
flag * 2
flag * x
flag * (z > 5)
-flag
+flag
flag - 1
1 - flag
flag / 2
flag^2
flag %% 2
flag %/% 2
2^flag
x * (x > 0)
(x > 0) * (x - 0.5)
flag == TRUE
flag == 1
flag == (x > 0)
flag != (x > 0)
flag > 0
flag == "TRUE"
flag & num
num & cls - 1
num - 1 | flag
!num
!(num - 1)
xor(flag, x > 0)
isTRUE(TRUE) + 1
TRUE & NA
FALSE & NA
TRUE | NA
flag & NA
flag | NA
sum(flag)
mean(flag)
sum(x > 0 & flag)
any(x > 2)
all(z > 0)
T
F + 1
abs(flag)
max(flag)
as.numeric(flag)
as.integer(x > 0)
as.integer(flag) + 1L
is.na(x)
!is.na(x)
is.na(NA)
is.finite(x)
is.finite(x / (num - 1))
is.nan(log(-1))
is.infinite(x / (num - 1))
which(num == 3)[1]
)---",
numbers = r"---(
1e3
1L
0x10
0xFFL
.5
5.
1e-2
1E+2
1.5e3
100000L
1e5L
x + .5
x * 1e-2
x + 5.
x / 0x10
num + 1L
num * 2L
num / 2L
num %/% 2L
num^2L
x/1e3
Inf
-Inf
NaN
NA
x + NA
NA_real_
NA_integer_
x / 0
num / 0 - Inf
0 / 0
log(0)
pi
pi * x
2 * pi * x / 24
exp(1)
1e308 * 10
2^1023 * 2
.1 + .2
.1 + .2 == .3
1 / 3
123456789.123
0.1234567890123456789
)---",
strings = r"---(
"a"
'a'
"it's"
'say "a"'
"a\"b"
'it\'s'
"a\\b"
"tab\there"
"line\nbreak"
"\x41"
"\u00e9"
"a#b"
f == "a"
f == 'a'
f == "a#b"
'#' == f
"a" == f
k != "lo"
f < "b"
f >= "b"
f == c("a")
f == "a" # the first level
paste(f, "#") # comment with "quotes"
paste0(f, '"')
paste0(f, "\\")
`x` + 1
`x`
`f` == "b"
resp.time / 1000
log(resp.time)
`total length` * 2
log(`total length`)
sqrt(`total length` + resp.time)
`resp.time` > 400
)---",
ifelse = r"---(
ifelse(x > 0, 1, 0)
ifelse(x > 0, x, 0)
ifelse(x > 0, x, -x)
ifelse(x > 0 & flag, z, num)
ifelse(flag, "yes", "no")
ifelse(x > 0, "pos", "neg")
ifelse(x > 1, "high", ifelse(x < -1, "low", "mid"))
ifelse(num == 1, 10, ifelse(num == 2, 20, ifelse(num == 3, 30, 40)))
ifelse(f == "a", 1, -1)
ifelse(f %in% c("a", "b"), 0.5, -0.5)
ifelse(k == "lo" | k == "hi", x, z)
ifelse(o == "low", 0, 1)
ifelse(o > "low", 1, 0)
ifelse(o >= "mid", x, 0)
ifelse(factor(f) == "c", 1, 0)
ifelse(num, 1, 0)
ifelse(num - 1, 1, 0)
ifelse(flag, TRUE, FALSE)
ifelse(flag, x > 0, FALSE)
ifelse(flag, 1L, 0L)
ifelse(test = x > 0, yes = 1, no = 2)
ifelse(no = 2, x > 0, 1)
ifelse(is.na(x), 0, x)
ifelse(flag, NA, x)
ifelse(x > 0, NA, "neg")
ifelse(flag, "yes", 0)
ifelse(flag, factor(f), 0)
ifelse(flag, f, "none")
ifelse(flag, f, k)
factor(ifelse(x > 0, "pos", "neg"))
factor(ifelse(x > 0, "pos", "neg"), levels = c("pos", "neg"))
ifelse(ifelse(flag, TRUE, x > 0), 1, 0)
ifelse(TRUE, x, z)
ifelse(x > mean(x), 1, 0)
ifelse(x > median(x), "upper", "lower")
ifelse(flag, c(1, 2), 0)
log(ifelse(x > 0, x, 1))
)---",
comparisons = r"---(
f == k
f != k
o == "low"
o != "high"
o > "low"
o >= "mid"
o < "high"
"mid" <= o
factor(f) == "a"
factor(f) != "b"
"c" == factor(f)
factor(f) == factor(f)
factor(f) %in% c("a", "c")
o %in% c("low", "high")
f %in% "a"
f %in% k
num %in% x
is.element(num, c(2, 4))
dose == 10
dose == "10"
num == "3"
x == as.character(x)
num > "2"
f > "a" & f < "c"
day > "2021-04-01"
as.Date(day) > as.Date("2021-04-01")
as.Date(day) > "2021-04-01"
as.Date(day) == as.Date(day)
startsWith(k, "t")
endsWith(k, "o")
grepl("o", k, fixed = TRUE)
grepl("o", k)
nchar(k) == 2
f == "zzz"
num == c(1, 2)
num == 1:5
x == x
)---",
cut = r"---(
cut(x, c(-20, -1, 0, 1, 20))
cut(x, breaks = c(-20, 0, 20))
cut(x, c(-Inf, 0, Inf))
cut(x, c(-Inf, -0.5, 0.25, Inf))
cut(x, c(20, -20, 0))
cut(x, 3)
cut(z, 4)
cut(num, 2)
cut(x, 3, labels = FALSE)
cut(x, c(-20, -1, 1, 20), labels = FALSE)
cut(x, c(-20, -1, 1, 20), labels = c("low", "mid", "high"))
cut(x, c(-20, -1, 1, 20), c("low", "mid", "high"))
cut(x, 2, labels = c("low", "high"))
cut(x, c(-20, -1, 1, 20), labels = c("in", "out", "in"))
cut(num, c(1, 3, 5))
cut(num, c(1, 3, 5), include.lowest = TRUE)
cut(num, c(1, 3, 5), right = FALSE)
cut(num, c(1, 3, 5), right = FALSE, include.lowest = TRUE)
cut(num, c(0, 2, 4, 6), ordered_result = TRUE)
cut(num, 0:5)
cut(num, c(0, 1:5))
cut(num, c(0, 2, 5), labels = letters[1:2])
cut(num, c(0, 2.5, 5))
cut(x, c(-20, -1.23456, 1.23456, 20))
cut(x, c(-20, -1.23456, 1.23456, 20), dig.lab = 5)
cut(x, c(-20, -1.23456, 1.23456, 20), dig.lab = 2)
cut(resp.time, c(0, 300, 450, 10000))
cut(resp.time, c(0, 1000, 100000))
cut(resp.time, c(0, 250000, 1000000))
cut(x, c(-1, 0, 1))
cut(x, quantile(x))
cut(x, quantile(x), include.lowest = TRUE)
cut(x, quantile(x, c(0, 1/3, 2/3, 1)), include.lowest = TRUE, labels = c("l", "m", "h"))
cut(x, quantile(x, probs = seq(0, 1, 0.25)), labels = FALSE, include.lowest = TRUE)
cut(z, seq(0, 10, by = 2))
cut(z, seq(0, 16, 4), right = FALSE)
cut(z, breaks = c(0, median(z), Inf), labels = c("short", "long"))
cut(z, c(0, 1e-3, 1e3, 1e6))
cut(log(z), 3)
as.numeric(cut(x, c(-20, 0, 20)))
as.integer(cut(z, 3))
relevel(cut(x, c(-20, 0, 20)), ref = "(0,20]")
cut(x, c(-20, 0, 20)) == "(0,20]"
findInterval(x, c(-1, 0, 1))
)---",
interaction = r"---(
interaction(f, k)
interaction(f, k, sep = "_")
interaction(f, k, sep = ":")
interaction(f, k, drop = TRUE)
interaction(f, k, lex.order = TRUE)
interaction(f, k, lex.order = TRUE, drop = TRUE, sep = "-")
interaction(f, flag)
interaction(f, num)
interaction(num, cls, drop = TRUE)
interaction(f, o)
interaction(o, f)
interaction(f, k, flag)
interaction(f)
interaction(factor(f, levels = c("c", "b", "a")), k)
as.integer(interaction(f, k))
interaction(f, x > 0)
factor(interaction(f, k))
droplevels(interaction(f, k))
paste(f, k)
paste(f, k, sep = "_")
paste0(f, k)
paste0("s", num)
paste(f, num, flag)
paste0(f, ":", k)
factor(paste(f, k))
factor(f):factor(k)
factor(f):o
)---",
dummy = r"---(
dummy(f)
dummy(f, "b")
dummy(f, c("a", "b"))
dummy(f, c("c", "a"))
dummy(k, "top")
dummy(o)
dummy(o, "high")
dummy(flag)
dummy(num)
dummy(num, "3")
dummy(factor(f, levels = c("c", "b", "a")))
lme4::dummy(f, "a")
dummy(f, "b") * x
)---",
conversions = r"---(
as.numeric(dose)
as.numeric(dose) * 2
log(as.numeric(dose))
as.integer(dose)
as.numeric(f)
as.numeric(factor(f))
as.integer(factor(f))
as.integer(factor(k))
as.numeric(factor(dose))
as.numeric(as.character(factor(dose)))
as.numeric(levels(factor(dose)))[factor(dose)]
as.numeric(o)
as.integer(o)
unclass(o)
as.numeric(o) - 1
as.numeric(factor(o))
as.numeric(factor(k, levels = c("lo", "mid", "hi", "top")))
as.numeric(x > 0)
as.numeric(num)
as.integer(x)
as.integer(-1.7)
as.integer("12")
as.numeric("1e3")
as.numeric(" 12 ")
as.numeric("0x1A")
as.numeric("abc")
as.numeric("")
as.double(dose)
as.character(num)
as.character(x)
as.character(flag)
as.character(factor(f))
as.character(o)
as.character(1e5)
as.character(123456.7)
as.character(0.1)
as.character(1e-5)
as.character(100000L)
as.factor(f)
as.factor(num)
as.factor(flag)
as.factor(x > 0)
as.factor(o)
as.factor(dose)
as.factor(round(x))
as.factor(x)
as.logical(num)
as.logical(num - 1)
as.logical("TRUE")
as.logical("T")
as.logical("true")
as.logical("yes")
as.logical(f)
as.logical(as.character(flag))
as.vector(x)
as.vector(f)
as.vector(factor(f))
as.vector(o)
as.vector(flag)
as.numeric(as.Date(day))
as.numeric(as.Date(day)) - 18628
as.integer(as.Date(day))
as.Date(day)
as.Date(day) - as.Date("2021-01-01")
as.numeric(as.Date(day) - as.Date("2021-01-01"))
as.numeric(as.Date(day) - min(as.Date(day))) / 7
as.Date(day) + 1
as.numeric(as.Date("2000-02-29"))
as.Date("01/02/2021", format = "%d/%m/%Y") - as.Date("2021-01-01")
as.numeric(difftime(as.Date(day), as.Date("2021-01-01"), units = "days"))
as.numeric(difftime(as.Date(day), as.Date("2021-01-01"), units = "weeks"))
as.numeric(substr(day, 6, 7))
as.ordered(num)
as.ordered(k)
factor(substr(day, 1, 7))
)---",
factors = r"---(
factor(f)
factor(num)
factor(dose)
factor(flag)
factor(o)
factor(x > 0)
factor(round(x))
factor(k, levels = c("lo", "mid", "hi", "top"))
factor(k, c("lo", "mid", "hi", "top"))
factor(k, levels = c("lo", "mid", "hi", "top"), ordered = TRUE)
factor(k, levels = c("lo", "mid"))
factor(k, levels = c("lo", "mid", "hi", "top", "extra"))
factor(f, labels = c("A", "B", "C"))
factor(f, levels = c("c", "a", "b"), labels = c("three", "one", "two"))
factor(f, levels = c("a", "b", "c"), labels = c("ab", "ab", "c"))
factor(f, labels = "L")
factor(num, levels = 1:5, labels = c("a", "b", "c", "d", "e"))
factor(num, levels = 5:1)
factor(num, labels = letters[1:5])
factor(num, levels = c(1, 3, 5))
factor(num > 2, labels = c("no", "yes"))
factor(flag, levels = c(TRUE, FALSE), labels = c("on", "off"))
factor(f, exclude = "a")
factor(f, exclude = c("a", "b"))
factor(num, exclude = 3)
factor(f, ordered = TRUE)
factor(o, ordered = FALSE)
factor(o, levels = c("high", "mid", "low"))
factor(o, levels = rev(levels(o)))
factor(f, levels = rev(levels(factor(f))))
factor(x = f, levels = c("b", "a", "c"))
ordered(k)
ordered(k, levels = c("lo", "mid", "hi", "top"))
ordered(num)
ordered(num, levels = c(5, 4, 3, 2, 1))
ordered(f, labels = c("x1", "x2", "x3"))
relevel(factor(f), ref = "b")
relevel(factor(f), "c")
relevel(factor(f), ref = 2)
relevel(factor(num), ref = "3")
relevel(factor(k), ref = "lo")
relevel(as.factor(f), ref = "b")
relevel(factor(o, ordered = FALSE), ref = "high")
droplevels(factor(f, levels = c("a", "b", "c", "d")))
droplevels(factor(f, levels = c("d", "c", "b", "a")))
droplevels(o)
droplevels(factor(f), exclude = "a")
addNA(factor(f))
rev(levels(o))[1]
nlevels(factor(f))
nlevels(o)
levels(o)
levels(factor(k))
levels(factor(k))[2]
as.integer(factor(num)) - 1
as.integer(factor(num) == 2)
c(lo = 1, mid = 2, hi = 3, top = 4)[k]
c(a = -0.5, b = 0, c = 0.5)[f]
c(10, 20, 30, 40, 50)[num]
unname(c(a = 1, b = 2, c = 3)[f])
match(f, c("c", "b", "a"))
match(k, c("lo", "mid"))
factor(factor(f))
factor(as.integer(factor(f)))
factor(toupper(f))
factor(nchar(k))
factor(cut(x, c(-20, 0, 20)), labels = c("neg", "pos"))
factor(1:3)
)---",
scale = r"---(
scale(x)
scale(x, center = TRUE, scale = FALSE)
scale(x, scale = FALSE)
scale(x, center = FALSE)
scale(x, center = FALSE, scale = TRUE)
scale(x, center = FALSE, scale = FALSE)
scale(x, center = 2)
scale(x, center = 2, scale = 4)
scale(x, center = mean(x), scale = 2 * sd(x))
scale(x, 1, 2)
scale(x, TRUE, FALSE)
scale(x, scale = 2)
scale(x, T, F)
scale(num)
scale(log(z))
scale(flag)
scale(x)^2
scale(x) * z
scale(x) * scale(z)
c(scale(x))
c(scale(x, scale = FALSE))
as.vector(scale(x))
as.numeric(scale(x))
scale(x)[, 1]
scale(x)[,1]
drop(scale(x))
log(z) - mean(log(z))
x - mean(x)
(x - mean(x)) / sd(x)
(x - mean(x)) / (2 * sd(x))
x / max(x)
x - min(x)
(x - min(x)) / (max(x) - min(x))
x - median(x)
x - mean(range(x))
scale(as.numeric(dose))
scale(as.numeric(factor(f)))
scale(cbind(x, z))
scale(cbind(x, z), scale = FALSE)
base::scale(x)
scale(scale = FALSE, x = z)
)---",
polynomials = r"---(
poly(x, 2)
poly(x, 1)
poly(x, 3)
poly(x, 5)
poly(x, degree = 2)
poly(degree = 2, x)
poly(x, 2, raw = TRUE)
poly(x, 3, raw = TRUE)
poly(x, degree = 3, raw = TRUE)
poly(x, 2, raw = T)
poly(x, 2)[, 2]
poly(x, 2)[, 1]
poly(x, 3)[, 2:3]
poly(x, 3)[, -1]
poly(x, 3)[, c(1, 3)]
poly(x, 3)[, "2"]
poly(x, 2, raw = TRUE)[, 2]
poly(num, 4)
poly(num, 2)
poly(log(z), 2)
poly(x, z, degree = 2)
poly(x, z, degree = 2, raw = TRUE)
poly(x, z, degree = 1)
poly(x, 2) * z
poly(x, 2, simple = TRUE)
stats::poly(x, 2)
poly(x, 2)[1:60, 1]
poly(as.numeric(dose), 3)
)---",
splines = r"---(
ns(x, 3)
ns(x)
ns(x, 1)
ns(x, df = 2)
ns(x, df = 3)
ns(x, df = 4)
ns(x, df = 5)
ns(x, df = 4, intercept = TRUE)
ns(x, knots = 0)
ns(x, knots = c(-1, 1))
ns(x, knots = c(-1, 0, 1), intercept = TRUE)
ns(x, knots = c(-1, 1), Boundary.knots = c(-4, 5))
ns(x, df = 3, Boundary.knots = c(-3, 4))
ns(x, knots = median(x))
ns(x, knots = quantile(x, c(0.25, 0.5, 0.75)))
ns(x, knots = quantile(x, c(1/3, 2/3)))
ns(z, 3)
ns(log(z), 3)
ns(num, 2)
ns(num, df = 3)
ns(x, 3)[, 1]
ns(x, 3)[, 2:3]
ns(x, 3) * z
ns(x, knots = numeric(0))
splines::ns(x, 3)
splines::ns(x, df = 2)
bs(x)
bs(x, 4)
bs(x, df = 3)
bs(x, df = 5)
bs(x, df = 6)
bs(x, df = 5, degree = 2)
bs(x, degree = 1)
bs(x, degree = 2)
bs(x, df = 4, degree = 1)
bs(x, knots = 0)
bs(x, knots = c(-1, 1))
bs(x, knots = c(-1, 1), degree = 1)
bs(x, knots = c(-1, 1), degree = 2, intercept = TRUE)
bs(x, knots = 0.5, Boundary.knots = c(-6, 6))
bs(x, df = 6, intercept = TRUE)
bs(x, df = 4, Boundary.knots = c(-8, 8))
bs(x, knots = quantile(x, c(0.25, 0.5, 0.75)))
bs(z, df = 4)
bs(x, df = 4)[, 2]
splines::bs(x, df = 4)
bs(log(z), df = 4)
)---",
summaries = r"---(
mean(x)
mean(x, trim = 0.1)
sd(x)
var(x)
median(x)
median(num)
min(x)
max(x)
min(x, z)
max(x, 2)
sum(x)
sum(x, z)
prod(num[1:4])
length(x)
range(x)
diff(range(x))
quantile(x)
quantile(x, 0.5)
quantile(x, 0.9, names = FALSE)
quantile(x, c(0.1, 0.9))
quantile(x, c(0.25, 0.75), names = FALSE)
quantile(x, 0.3, type = 7)
quantile(x, 0.3, type = 6)
quantile(x, 0.3, type = 1)
quantile(x, 0.3, type = 2)
quantile(x, 0.3, type = 3)
quantile(x, 0.3, type = 4)
quantile(x, 0.3, type = 5)
quantile(x, 0.3, type = 8)
quantile(x, 0.3, type = 9)
quantile(x, probs = 1/3)
quantile(num, 0.5)
IQR(x)
mad(x)
x > quantile(x, 0.75)
x - quantile(x, 0.5, names = FALSE)
nrow(cbind(x, z))
ncol(cbind(x, z))
mean(x > 0)
mean(c(1, 2, NA), na.rm = TRUE)
sum(c(1, 2, 3))
max(1, 2, 3)
cor(x, z)
length(unique(num))
length(levels(factor(f)))
x - ave(x, f)
ave(x, f)
ave(x, f, k)
x - ave(x, f, FUN = mean)
)---",
functions = r"---(
abs(x)
exp(x)
log(z)
log(z, 2)
log(z, base = 2)
log(z, base = 10)
log(base = 2, z)
log(x = z, base = 3)
log(2, z)
log2(z)
log10(z)
log1p(z)
log(z + 1)
expm1(x)
sqrt(z)
sqrt(abs(x))
log(x)
sqrt(x)
base::log(z)
base::log(z, 10)
stats::median(x)
sin(x)
cos(x)
tan(x)
asin(x / 10)
acos(x / 10)
atan(x)
atan2(x, z)
asin(x)
sinh(x)
cosh(x)
tanh(x)
asinh(x)
acosh(z + 1)
atanh(x / 10)
sinpi(num / 4)
cospi(num / 4)
sin(2 * pi * num / 5)
pmin(x, z)
pmax(x, 0)
pmax(0, x)
pmin(x, z, num)
pmax(x - 1, 0)
pmin(pmax(x, -1), 1)
pmax(x, NA)
pmax(x, NA, na.rm = TRUE)
round(x)
round(x, 1)
round(x, digits = 2)
round(num - 0.5)
round(num / 2)
round(0.15, 1)
round(2.675, 2)
round(resp.time, -2)
signif(x, 2)
signif(resp.time, 1)
signif(resp.time, digits = 3)
floor(x)
ceiling(x)
trunc(x)
sign(x)
cumsum(x)
cumprod(num / 3)
cummax(x)
cummin(x)
rank(x)
rank(num)
rank(num, ties.method = "min")
rank(-x)
order(x)
rev(x)
sort(x)
nchar(k)
nchar(k) * x
nchar(f) + nchar(k)
toupper(f)
tolower(toupper(k))
substr(k, 1, 1)
substr(k, 2, 10)
substring(k, 2)
substr(day, 1, 4)
sub("o", "0", k, fixed = TRUE)
trimws(paste0(" ", f, " "))
strtoi(substr(day, 9, 10), 10L)
plogis(x)
qlogis(plogis(x))
qlogis(num / 10)
pnorm(x)
qnorm(num / 10)
dnorm(x)
exp(-x^2 / 2)
1 / (1 + exp(-x))
1 / z
1/x
x^3
x^0.5
z^0.5
z^(1/3)
z^-1
abs(x)^1.5
sqrt(x^2 + z^2)
x * z / (x + z)
gamma(num)
lgamma(z)
factorial(num)
choose(5, num)
beta(num, cls)
digamma(z)
identity(x)
I(x)
I(x^2)
I(x > 0)
I(f)
I(x + z)
I(I(x))
rep(1, 60)
seq(-1, 1, length.out = 60)
seq_len(60)
seq(1, 60)
seq(2, 120, by = 2)
1:60
60:1
numeric(60)
seq_along(x)
x[1]
x[60:1]
x[c(1, 3)]
x[-1]
x[x > 0]
c(1, 2, 3)[2]
c(x[1], 0)
cbind(x, z)
cbind(x, z^2)
cbind(a = x, b = z)
cbind(1, x)
cbind(sin(2 * pi * num / 5), cos(2 * pi * num / 5))
cbind(x > 0, flag)
rowMeans(cbind(x, z))
rowSums(cbind(x, z, num))
)---",
matrices = r"---(
contr.treatment(3)
contr.treatment(3, base = 2)
contr.treatment(4, 4)
contr.treatment(c("a", "b", "c"))
contr.treatment(levels(factor(f)), base = 3)
contr.treatment(3, contrasts = FALSE)
contr.treatment(2)
contr.sum(2)
contr.sum(3)
contr.sum(5)
contr.sum(c("a", "b", "c"))
contr.sum(levels(o))
contr.helmert(3)
contr.helmert(4)
contr.SAS(3)
contr.SAS(c("a", "b", "c"))
contr.poly(2)
contr.poly(3)
contr.poly(4)
contr.poly(5)
contr.poly(3, scores = c(1, 2, 4))
contr.poly(4, scores = c(0, 1, 5, 10))
MASS::contr.sdif(3)
MASS::contr.sdif(4)
MASS::contr.sdif(levels(factor(f)))
stats::contr.sum(3)
contr.sum(3) / 2
contr.sum(3)[, 1]
-contr.sum(2) / 2
cbind(c(-1, 0, 1), c(1, -2, 1))
matrix(c(-1, 0, 1, 1, -2, 1), 3)
matrix(c(-1, 0, 1, 1, -2, 1), nrow = 3, ncol = 2)
matrix(c(1, 2, 3, 4), ncol = 2, byrow = TRUE)
)---",
beyond = r"---(
(function(v) v + 1)(x)
outer(x, 1:2, "^")
sapply(x, abs)
with(list(x = 1), x + 1)
switch("b", a = x, b = z)
if (TRUE) x else z
reorder(factor(f), x)
factor(gsub("o", "0", k, fixed = TRUE))
polym(x, z, degree = 2, raw = TRUE)
sapply(x, function(v) v^2)
vapply(x, abs, 0)
Reduce("+", list(x, z))
do.call("log", list(z))
eval(quote(x))
get("x")
local({a <- x; a + 1})
tapply(x, f, mean)[f]
mapply(max, x, z)
x |> abs()
(\(v) v * 2)(x)
as.numeric(format(as.Date(day), "%j"))
table(f)[f]
unlist(lapply(num, function(i) i * 2))
sprintf("%02d", as.integer(num))
model.matrix(~ f)[, 2]
data.matrix(cbind(x, z))
aperm(cbind(x, z))[1, ]
stats::lowess(z, x)$y
)---")

# Evaluated in a formula of its own; what is recorded are the columns of the model matrix.
contrast_texts <- lines_of(r"---(
C(f)
C(f, sum)
C(f, contr.sum)
C(f, "contr.sum")
C(f, treatment)
C(f, contr.treatment)
C(f, contr.treatment, base = 2)
C(f, contr.treatment(3, base = 3))
C(f, contr.treatment(3))
C(f, contr.sum(3))
C(f, helmert)
C(f, contr.helmert)
C(f, contr.helmert(3))
C(f, SAS)
C(f, contr.SAS)
C(f, poly)
C(f, contr.poly)
C(f, MASS::contr.sdif)
C(f, MASS::contr.sdif(3))
C(f, c(-1, 0, 1))
C(f, c(-1, 0, 1), 1)
C(f, cbind(c(-1, 0, 1), c(1, -2, 1)))
C(f, contr.sum, 1)
C(f, contr.sum, how.many = 1)
C(k, sum)
C(k, contr.treatment, base = 4)
C(factor(k, levels = c("lo", "mid", "hi", "top")), contr.sum)
C(factor(k, levels = c("lo", "mid", "hi", "top")), contr.poly)
C(k, matrix(c(-3, -1, 1, 3, 1, -1, -1, 1), 4))
C(o)
C(o, contr.poly)
C(o, contr.treatment)
C(o, sum)
C(o, poly, 1)
C(o, contr.helmert)
C(o, contr.poly(3, scores = c(1, 2, 4)))
C(factor(num), contr.sum)
C(factor(num), contr.poly, 2)
C(as.factor(num), contr.treatment, base = 3)
C(factor(flag), contr.sum)
C(interaction(f, flag), contr.sum)
C(ordered(k, levels = c("lo", "mid", "hi", "top")), contr.treatment)
C(relevel(factor(f), ref = "b"), treatment)
C(object = f, contr = contr.sum)
stats::C(f, sum)
C(f, -contr.sum(3) / 2)
C(cut(x, c(-20, -1, 1, 20)), contr.sum)
)---")

# Evaluated on missing.csv, no row left out.
missing_texts <- lines_of(r"---(
x
f
o
flag
num
is.na(x)
!is.na(f)
is.na(x) | is.na(z)
x + z
x > 0
x > 0 & flag
x > 0 | flag
!flag
flag + 0
f == "a"
f %in% "a"
f %in% NA
x %in% c(1, NA)
num == NA
num %in% c(1, NA)
ifelse(is.na(x), 0, x)
ifelse(x > 0, 1, 0)
ifelse(x > 0, "pos", "neg")
ifelse(is.na(f), "none", f)
ifelse(flag, 1, 0)
factor(f)
factor(f, exclude = NULL)
addNA(factor(f))
factor(num)
factor(ifelse(is.na(f), "none", f))
interaction(f, flag)
paste(f, k)
paste0("n", num)
nchar(f)
toupper(f)
substr(f, 1, 1)
cut(x, c(-20, 0, 20))
cut(x, 3)
mean(x)
mean(x, na.rm = TRUE)
x - mean(x)
x - mean(x, na.rm = TRUE)
sd(x, na.rm = TRUE)
median(x, na.rm = TRUE)
max(x)
max(x, na.rm = TRUE)
sum(is.na(x))
quantile(x, 0.5, na.rm = TRUE)
scale(x)
scale(x, scale = FALSE)
scale(x, center = FALSE)
c(scale(x))
scale(num)
ns(x, 3)
ns(x, knots = c(-1, 1))
bs(x, df = 4)
pmin(x, z)
pmax(x, 0, na.rm = TRUE)
cumsum(x)
rank(x)
as.numeric(dose)
as.integer(flag)
as.integer(factor(f))
as.numeric(o)
as.Date(day) > as.Date("2021-04-01")
as.numeric(as.Date(day))
o > "low"
relevel(factor(f), ref = "b")
nlevels(factor(f))
round(x, 1)
log(z)
x * NA
dummy(flag)
poly(x, 2, raw = TRUE)
startsWith(f, "a")
grepl("a", f, fixed = TRUE)
)---")

# Texts with line breaks.
whole_texts <- c(
  "x +\n  z", "(x\n  + z)", "{\n  x + z\n}", "{x\nz}", "ifelse(x > 0, # positive\n  1, # yes\n  0)",
  "paste(f, # not 'this'\n  k, sep = \"#\")", "x # only a comment\n", "# before\nx + 1", "x ^\n2",
  "c(1,\n\n2)[\n2]", "\n\nx\n", "x > 0 &\n  # and\n  flag", "\"two\nlines\"", "x # )(", "x # \""
)

refused_texts <- c(lines_of(r"---(
x +
x *
* x
/ x
^ x
x ^
x y
x 2
2 x
x1 2
total length
x + + * z
x * / z
(x
x)
(x + z
x + z)
((x)
f(x
f(x))
[x]
x[
x[1
x[[1]
x]
{x
x}
(x]
{x)
f(x]
"a
'a
"a'
`x
x %in z
x % z
x %%% z
x < 0 < z
x == z == 1
x < z > 1
x != z <= 1
!x > 0 == flag
x > 0 == flag & TRUE
x => z
x =< z
x === z
x <> z
x ! z
x & & z
x | | z
x ||| z
x ** * z
1.2.3
1e
0x
0xG
1x
1__2
_x
x_ _y
x@
x$
x::
::x
x::y::z
x:::
f(,)(
if (x)
else x
function
function(x)
x if TRUE
"\xZZ"
"\q"
"a" "b"
f "a"
x 'a'
x; + ; *
,
x, z
f(x,, z))
x = = z
x ? ? *
%in% z
%% 2
~
x ~
&x
| x
< 2
x \ z
x + \ z
(x # )
x := := z
x -> 
NULL NULL
TRUE FALSE
x."y"
f()g()
x(
x[)
@x
$x
)---"), "", "x +\n", "(x\nz)", "f(x\nz)")

error_texts <- lines_of(r"---(
nosuch
nosuch + x
x + nosuch(z)
nosuch(x)
log()
log("a")
log(f)
exp(f)
sqrt(k)
f + 1
f * 2
-f
!f
f & flag
f ^ 2
mean()
sin(x, z)
abs(x, 2)
log(z, 2, 3)
log(z, bas = 2, base = 3)
sqrt(y = x)
scale("a")
scale(f)
poly(x, 0)
poly(num, 5)
poly(x, 60)
poly(f, 2)
ns(f, 2)
bs(x, degree = 0)
ns(x, df = 3, knots = "a")
cut(x, 1)
cut(f, 2)
cut(x, c(0, 1, 1))
cut(x, c(-1, 0, 1), labels = "a")
relevel(factor(f), ref = "zz")
relevel(o, ref = "mid")
relevel(f, ref = "b")
factor(f, levels = c("a", "a"))
factor(f, labels = c("A", "B"))
factor(f, lev = "a", levels = "b")
relevel(factor(f), ref = 7)
dummy(f, "zz")
ifelse(x > 0, 1)
ifelse()
quantile(x, 2)
quantile(x, -0.1)
quantile(x, 0.5, type = 10)
x[, 1]
scale(x)[, 2]
poly(x, 2)[, 3]
poly(x, 2)[, "9"]
x[[100]]
contr.sum(1)
contr.treatment(3, base = 4)
contr.poly(1)
as.Date("abc")
as.Date(f)
nosuch::log(x)
stats::nosuch(x)
base::nosuch
if (NA) x else z
x(2)
3(x)
"a" + 1
-"a"
!"a"
"a"(x)
sum("a")
max(f, 1) + 1
startsWith(num, "a")
stop("no")
interaction()
rep(x, -1)
seq(1, 10, by = -1)
x %nosuch% z
ave(x, FUN = nosuch)
C(x, sum)
C(num, contr.sum)
C(f, nosuch)
C(factor(rep("a", 60)), sum)
match.arg(x)
rowMeans(x)
)---")

precedence_texts <- function() {
  binary <- c("^", "**", ":", "%%", "%in%", "*", "/", "+", "-", "<", "==", "&", "&&", "|", "||", "~")
  compares <- c("<", "==")
  pairs <- expand.grid(second = binary, first = binary, stringsAsFactors = FALSE)
  pairs <- pairs[!(pairs$first %in% compares & pairs$second %in% compares), ]
  c(
    sprintf("a %s b %s c", pairs$first, pairs$second),
    sprintf("-a %s b", binary), sprintf("a %s -b", binary), sprintf("!a %s b", binary),
    sprintf("a %s !b", binary), sprintf("a %s !b + c", binary), sprintf("a %s -b:c", binary),
    sprintf("~a %s b", binary), sprintf("a %s ~b + c", binary),
    lines_of(r"---(
a + b + c
a - b - c
a ^ b ^ c
a ^ b ^ c ^ d
-a^b
-a^-b
-a^-b^c
(-a)^b
- - a
!-a
-!a
-!a + b
!!a
!a == b
!a & b
!(a & b)
a == !b == c
a + !b & c
a * !b + c > d & e
-a:b
-a %% b
-a * b
+a - +b
a %% b %/% c * d
a * b %% c
a / b * c
a:b:c
a:b * c
a * b:c
a:b^c
a^b:c
a %in% b:c
a %in% b + c
a + b * c
a > b & c > d
a > b & c | d
a | b & c
a || b && c
a | b + c
a + b | c
y ~ x + (1 | g)
y ~ 1 | g
y ~ x | g
y ~ x + 1 | g
y ~ x + (x || g)
y ~ x + (0 + x | g/h)
y ~ x + (1 | g:h) + (1 | h)
~ x
~ x | g
~ -1 + x
y ~ . - h
log(y) ~ x
cbind(a, b) ~ x
y ~ x * z - x:z
y ~ (a + b + c)^2 - a:b
y ~ a %in% b
y ~ a / (b + c)
y ~ 0 + a
y ~ a - 1
y ~ a+-1
f(a)
f(a)(b)
f(a, b)
f(a = b, c)
f(a = -b^2, c + d)
f(`a b` = 1)
f("a" = 1)
f()
f(g(h(a)))
f(a)[1]
f(a)[1]^2
-f(a)[1]
-a[1]^2
a[1]
a[, 1]
a[1, ]
a[b > 1, "c"]
a[[1]]
a[["b"]][1]
a$b
a$b$c
-a$b^2
a$b[1]
a::b
a::b(c)
a::b(c)^2
-a::b
a:b::c
a@b
{a}
{a + b} * c
{a; b}
(a)
((a + b)) * c
-(a + b)
a * (b + c)
a^(b + c)
(a + b):c
"a b" == c
'a' %in% b
`a b` + c
a.b + .c
a..1
...x
.5 + 5.
1e3 + 1e-3
1L + 2L
0x10 + 0xAL
TRUE & FALSE
NULL
NA + Inf
-1
-1:3
-1^2
2^-1
2^-1:3
a # b
a + # b
a %o% b %x% c
a %+% b * c
a%in%b
a%%b
a%/%b
a<b
a<=b
a>=b
a!=b
a!=!b
a<-b + c
a< -b
a&b|c&d
!a|!b&!c
if (a) b else c
if (a) b else c + d
function(x) x + 1
function(x, k = 2) x^k
(function(x) x)(a)
\(x) x + 1
a |> f()
a |> f(b) + c
a = b
a <- b <- c
a -> b
?a
)---"), "a +\n b", "(a\n + b)", "{a\nb}", "f(a,\n  b)", "f(a # comment, with \"\n , b)",
    "a ^\n-b", "'it\\'s' == a", "\"a\\\"b\\\\\" == 'c\"d'", "\"a#b\" == a # c", "'\\u00e9\\t' == a"
  )
}
