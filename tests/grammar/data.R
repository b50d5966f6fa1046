# The data sets: made once from fixed seeds, rounded, written, and read back as any reader would.

kinds <- list(
  x = "numeric", z = "numeric", num = "integer", cls = "integer", flag = "logical", f = "text",
  k = "text", o = "ordered", dose = "text", day = "text", y = "numeric", g = "text", h = "text",
  resp.time = "numeric", `total length` = "numeric"
)
order_of_o <- c("low", "mid", "high")

pick <- function(from, n) from[sample.int(length(from), n, replace = TRUE)]

# Rows cross the levels of g and h; x runs over both signs, z is positive, text is lower case.
make_data <- function(n_g, n_h, repeats, seed) {
  set.seed(seed, kind = "Mersenne-Twister", normal.kind = "Inversion", sample.kind = "Rejection")
  gi <- rep(seq_len(n_g), each = n_h * repeats)
  hi <- rep(rep(seq_len(n_h), each = repeats), n_g)
  n <- length(gi)
  d <- data.frame(
    x = round(rnorm(n, 0.5, 2), 3), z = round(runif(n, 0.2, 9), 3),
    num = sample.int(5, n, replace = TRUE), cls = hi %% 4 + 1, flag = runif(n) < 0.45,
    f = pick(c("a", "b", "c"), n), k = pick(c("lo", "mid", "hi", "top"), n),
    o = pick(order_of_o, n), dose = pick(c("10", "5", "100", "2.5"), n),
    day = format(as.Date("2021-02-20") + sample.int(90, n, replace = TRUE)),
    y = 0, g = sprintf("g%02d", gi), h = sprintf("h%d", hi)
  )
  d$resp.time <- round(exp(rnorm(n, 6, 0.4)), 1)
  d$`total length` <- round(runif(n, 10, 20), 2)
  intercept <- rnorm(n_g, 0, 1.5)
  slope <- rnorm(n_g, 0, 0.6)
  item <- rnorm(n_h, 0, 0.9)
  d$y <- 4 + 0.7 * d$x + 1.1 * (d$f == "b") - 0.6 * (d$f == "c") + 0.3 * log(d$z) * d$flag +
    intercept[gi] + slope[gi] * d$x + item[hi] + rnorm(n, 0, 0.8)
  d$y <- round(d$y, 3)
  d
}

# Rows to predict: some beyond the range of x and z, no row with level "top" of k.
make_new <- function() {
  d <- make_data(5, 2, 1, seed = 33)
  d$x <- c(-9.5, -6.25, -2, -0.125, 0.25, 0.5, 1.75, 3, 7.5, 11)
  d$z <- c(0.05, 0.5, 1, 2, 3.5, 5, 6, 8, 12, 15)
  d$k[d$k == "top"] <- "mid"
  d
}

make_missing <- function(d) {
  holes <- list(
    x = c(3, 17, 40), z = c(5, 17, 51), num = c(9, 28), flag = c(1, 33), f = c(12, 40),
    o = c(20, 55), dose = c(7, 44), day = c(30), y = c(2, 3, 25, 58)
  )
  for (name in names(holes)) d[[name]][holes[[name]]] <- NA
  d
}

read_data <- function(path) {
  classes <- c(numeric = "numeric", integer = "numeric", logical = "logical", text = "character",
               ordered = "character")[unlist(kinds)]
  d <- read.csv(path, colClasses = unname(classes), check.names = FALSE, na.strings = "")
  stopifnot(identical(names(d), names(kinds)))
  d$o <- factor(d$o, levels = order_of_o, ordered = TRUE)
  d
}

write_data <- function() {
  crossed <- make_data(15, 10, 2, seed = 5)
  sets <- list(data = make_data(10, 6, 1, seed = 11), new = make_new(), crossed = crossed)
  sets$missing <- make_missing(sets$data)
  for (name in names(sets))
    write.csv(sets[[name]], paste0(name, ".csv"), row.names = FALSE, na = "", quote = FALSE)
  about <- lapply(kinds, function(kind) {
    if (kind == "ordered") list(kind = one(kind), levels = order_of_o) else list(kind = one(kind))
  })
  lines <- paste0(quoted(names(about)), ": ", vapply(about, json, ""))
  writeLines(c("{", paste0(lines, c(rep(",", length(lines) - 1), "")), "}"), "columns.json")
  sapply(paste0(names(sets), ".csv"), read_data, simplify = FALSE)
}
