# Random right-hand sides and R's model matrix of each.

leaves <- c(
  "x", "z", "num", "f", "k", "o", "flag", "factor(num)", "log(z)", "I(x^2)", "poly(x, 2)", "ns(x, 3)"
)
operators <- c("+", "*", ":", "-", "/", "%in%")
widest <- 120 # columns

one_of <- function(items, weights = NULL) items[sample.int(length(items), 1, prob = weights)]

random_item <- function(depth) {
  draw <- runif(1)
  if (depth > 0 && draw < 0.22) {
    inner <- paste0("(", random_side(depth - 1), ")")
    if (runif(1) < 0.45) paste0(inner, one_of(c("^2", "^3", " ^ 2", "**2"))) else inner
  } else if (draw < 0.25) one_of(c("0", "1", "1", "2"))
  else if (draw < 0.27) paste0(one_of(leaves), one_of(c("^2", "^1", "^0", "^x")))
  else one_of(leaves, c(3, 3, 2, 4, 3, 3, 3, 1, 1, 1, 1, 1))
}

random_side <- function(depth) {
  text <- random_item(depth)
  for (i in seq_len(sample.int(4, 1) - 1)) {
    op <- one_of(operators, c(8, 4, 5, 2, 2, 1))
    op <- if (op %in% c(":", "*", "/", "-") && runif(1) < 0.5) op else paste0(" ", op, " ")
    text <- paste0(text, op, random_item(depth))
  }
  text
}

random_formula <- function() {
  start <- one_of(c("", "0 + ", "1 + ", "-1 + ", "+"), c(12, 2, 1, 1, 0.3))
  end <- one_of(c("", " - 1", " + 0", "+1", " - x", " - f", " - x:f", " + x + f"), c(12, 2, 1, 1, 1, 1, 1, 1))
  paste0(start, random_side(2), end)
}

# Products of small integers: no symmetry that hides two rows exchanged.
row_weights <- function(n) (seq_len(n) * 7) %% 11 - 5 + seq_len(n) / 64

matrix_record <- function(text, data, whole) {
  got <- attempt({
    formula <- as.formula(paste("~", text), env = new.env(parent = globalenv()))
    frame <- model.frame(formula, data)
    model.matrix(attr(frame, "terms"), frame)
  })
  record <- list(text = one(text))
  if (!is.null(got$error)) return(c(record, list(refused = one(got$error))))
  m <- got$value
  columns <- unname(lapply(seq_len(ncol(m)), function(j) as.vector(m[, j])))
  terms <- terms(formula, data = data)
  record <- c(record, list(
    labels = attr(terms, "term.labels"), intercept = one(attr(terms, "intercept") == 1),
    names = as.character(colnames(m)), assign = attr(m, "assign")
  ))
  weights <- row_weights(nrow(m))
  if (whole && ncol(m) <= 25) c(record, list(columns = columns))
  else c(record, list(
    sum = colSums(m, dims = 1), squares = colSums(m^2), dot = as.vector(weights %*% m)
  ))
}

# Very wide ones are drawn again, and most of those that leave one or two columns.
draw_texts <- function(count, data) {
  texts <- character(0)
  while (length(texts) < count) {
    text <- random_formula()
    width <- tryCatch(ncol(model.matrix(as.formula(paste("~", text)), data)), error = function(e) 5)
    if (width <= widest && (width > 2 || runif(1) < 0.2)) texts <- unique(c(texts, text))
  }
  texts
}

fixed_sides <- lines_of(r"---(
0
1
-1
+0
x - 1
x + 0 + 1
x - 1 + 1
x + 1 - 1
x - 0
0 + f
f + 0 + k
0 + x + f
0 + f:x
f:x
f:k
f:k - 1
f + f:k
k:f + f
f * k - f
f * k - f:k
f * k - k
f*k*o - f:k:o
(f + k + o)^2
(f + k + o)^2 - f:k
(f + k)^3
x^2
f^2
f/x
f/k
f/(x + z)
f/k/flag
(f + k)/x
x/f
f %in% k
f + k %in% f
x %in% f
f:x + f:z
x:z
x:x
f:f
x*x
x + x
x + z - x
f:k:x
f:k:x - 1
x:f - x
flag
0 + flag
flag:x
flag:f
0 + flag:f
!flag
x > 0
(x > 0):f
o
0 + o
o:x
o:f
0 + o:f
factor(num):o
poly(x, 2):f
poly(x, 2) * o
ns(x, 3):flag
I(x^2):f
log(z) + log(z):f
factor(num) + num
x + offset(z)
offset(z)
f + offset(log(z)):x
f*offset(x)
(f + k):x
(f + k - 1)
(0 + f) + k
(x + z)*f - x:f
(x + z):(f + k)
x + (z + f)
((x)) + ((f))
x + I(z) + I(z + 1)
(x + z)^0
(x + z)^1
(x + z)^2.5
(x + z)^-1
x + 2
x * 1
x:1
1:x
0:x
"x"
-x
- x + z
--1
x - - z
x + -1
f:0
x - y
-f + f
+x
+x + z
`total length` + resp.time
`total length`:f
k + factor(k, levels = c("lo", "mid", "hi", "top"))
scale(x):f
cbind(x, z):f
interaction(f, flag) + x
f:factor(f)
)---")

write_matrices <- function(data) {
  set.seed(71, kind = "Mersenne-Twister", normal.kind = "Inversion", sample.kind = "Rejection")
  texts <- unique(c(fixed_sides, draw_texts(500, data)))
  records <- lapply(seq_along(texts), function(i) matrix_record(texts[i], data, whole = i %% 3 == 0))
  write_records(records, "matrices.json")
  refused <- vapply(records, function(r) !is.null(r$refused), TRUE)
  cat(sum(refused), "refused by R\n")
  print(table(vapply(records[refused], function(r) r$refused[[1]], "")))
}
